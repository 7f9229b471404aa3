"""What every client here sends: twenty likes, five of them once more. Prints the id of each."""

import os
import uuid

gateway = os.environ["GATEWAY_URL"]
key = os.environ["WRITE_KEY"]


def events():
    likes = [(str(uuid.uuid4()), f"u{n % 7}", f"p{n % 3}") for n in range(20)]
    for like in likes:
        print(like[0])
    return likes + likes[:5]
