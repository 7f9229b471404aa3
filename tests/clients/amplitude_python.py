"""amplitude-analytics"""

import threading
import time

from amplitude import Amplitude, BaseEvent, Config

from events import events, gateway, key

done = threading.Semaphore(0)
client = Amplitude(
    key,
    Config(
        server_url=f"{gateway}/2/httpapi",
        flush_queue_size=8,
        flush_interval_millis=100,
        callback=lambda event, code, message=None: done.release(),
    ),
)
likes = events()
for id, user, post in likes:
    client.track(BaseEvent("like", user_id=user, insert_id=id, event_properties={"postId": post}))
deadline = time.monotonic() + 8
for _ in likes:
    # What waits to be repeated when the client is shut down is lost; of what was reset it says nothing.
    done.acquire(timeout=max(0, deadline - time.monotonic()))
client.shutdown()
