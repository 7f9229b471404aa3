"""rudder-sdk-python"""

import rudderstack.analytics as analytics

from events import events, gateway, key

analytics.write_key = key
analytics.dataPlaneUrl = gateway
analytics.upload_size = 8
for id, user, post in events():
    analytics.track(user, "like", {"postId": post}, message_id=id)
analytics.shutdown()
