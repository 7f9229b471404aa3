"""posthog"""

from posthog import Posthog

from events import events, gateway, key

client = Posthog(key, host=gateway, gzip=True, flush_at=8, flush_interval=0.1, enable_exception_autocapture=False)
for id, user, post in events():
    client.capture("like", distinct_id=user, uuid=id, properties={"postId": post})
client.shutdown()
