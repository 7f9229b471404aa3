"""pyarrow: each row below s3://BUCKET/PATH as a line [partition, offset, window], the window as the topic tells it."""

import json
import os
import sys
from urllib.parse import urlsplit

from pyarrow.dataset import dataset
from pyarrow.fs import S3FileSystem

MEMBERS = {
    "windowStart": "window_start",
    "windowEnd": "window_end",
    "source": "source",
    "type": "event_type",
    "objectType": "object_type",
    "objectId": "object_id",
    "count": "count",
    "users": "users",
    "usersError": "users_error",
}


def member(value):
    return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03}Z" if hasattr(value, "strftime") else value


endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
store = S3FileSystem(endpoint_override=endpoint.netloc, scheme=endpoint.scheme, region=os.environ["AWS_REGION"])
place = sys.argv[1].removeprefix("s3://")
for row in dataset(place, filesystem=store, format="parquet", partitioning="hive").to_table().to_pylist():
    window = {name: member(row[column]) for name, column in MEMBERS.items() if row[column] is not None}
    print(json.dumps([row["partition"], row["offset"], window]))
