"""cloudevents: binary and structured in turn; the package does not repeat a request, so this does."""

import requests
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from events import events, gateway, key


def post(message):
    headers = {**message.headers, "x-api-key": key}
    try:
        answer = requests.post(f"{gateway}/api/events", headers=headers, data=message.body)
    except requests.ConnectionError:
        return False
    if answer.status_code in (400, 415, 422):
        raise SystemExit(answer.text)
    return answer.ok


for n, (id, user, object) in enumerate(events()):
    attributes = {"id": id, "source": "/clients/python", "type": "like", "specversion": "1.0", "subject": f"post/{object}"}
    event = CloudEvent(attributes, {"userId": user})
    message = to_binary_event(event) if n % 2 else to_structured_event(event)
    while not post(message):
        pass
