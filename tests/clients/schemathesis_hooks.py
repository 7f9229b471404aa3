"""What schemathesis must be told: texts of several lines are sent as they are."""

import schemathesis

for media_type in ("application/x-ndjson", "text/csv"):
    schemathesis.serializer.alias(media_type, "text/plain")
