"""pyarrow: each row below s3://BUCKET/PATH as a line [partition, offset, window], the window as the topic tells it."""

import json
import os
import sys
from datetime import datetime
from urllib.parse import urlsplit

from pyarrow.dataset import dataset
from pyarrow.fs import FileSelector, S3FileSystem

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
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03}Z"
    return value


endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
store = S3FileSystem(endpoint_override=endpoint.netloc, scheme=endpoint.scheme, region=os.environ["AWS_REGION"])
below = store.get_file_info(FileSelector(sys.argv[1].removeprefix("s3://"), recursive=True, allow_not_found=True))
files = [file.path for file in below if file.path.endswith(".parquet")]
rows = dataset(files, filesystem=store, format="parquet", partitioning="hive").to_table().to_pylist() if files else []
for row in rows:
    window = {name: member(row[column]) for name, column in MEMBERS.items() if row[column] is not None}
    print(json.dumps([row["partition"], row["offset"], window]))
