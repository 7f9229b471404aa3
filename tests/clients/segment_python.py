"""segment-analytics-python"""

import segment.analytics as analytics

from events import events, gateway, key

analytics.write_key = key
analytics.host = gateway
analytics.gzip = True
for id, user, post in events():
    analytics.track(user, "like", {"postId": post}, message_id=id)
analytics.shutdown()
