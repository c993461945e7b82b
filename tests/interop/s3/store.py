"""A store that speaks the S3 API with Object Lock, for as long as standard input is open: moto's server, over TLS on loopback.

Signatures and rights are checked. It says on a line of JSON where it is and who may write; then it answers each line of
JSON on standard input with one, as somebody who may do everything.

    store.py CERTIFICATE_CHAIN PRIVATE_KEY ROOTS
"""

import json
import os
import pathlib
import ssl
import sys
import threading

os.environ.pop("AWS_PROFILE", None)
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

import boto3
import botocore.exceptions
import requests
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

REGION = "eu-central-1"
# What infra/README.md gives to the writer.
RIGHTS = ["s3:PutObject", "s3:PutObjectRetention", "s3:GetObject", "s3:GetObjectRetention", "s3:ListBucket", "s3:DeleteObject"]


class Store:
    def __init__(self, chain, key, roots):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        app = DomainDispatcherApplication(create_backend_app)
        server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.port = server.server_port
        self.endpoint = f"https://localhost:{self.port}"
        self.roots = roots
        iam = self.client("iam", "setup", "setup")
        self.s3 = self.client("s3", *self.user(iam, "administrator", ["s3:*"]))
        self.writer = self.user(iam, "writer", RIGHTS)
        # May read the newest checkpoint and no other file.
        blind = [right for right in RIGHTS if right != "s3:GetObject"]
        self.blind = self.user(iam, "blind", blind, "arn:aws:s3:::locked/checkpoint")
        setup = self.client("s3", "setup", "setup")
        place = {"LocationConstraint": REGION}
        setup.create_bucket(Bucket="locked", CreateBucketConfiguration=place, ObjectLockEnabledForBucket=True)
        setup.create_bucket(Bucket="unlocked", CreateBucketConfiguration=place)
        # From here on moto checks who asks.
        requests.post(f"{self.endpoint}/moto-api/reset-auth", data="0", verify=roots, timeout=10).raise_for_status()

    def client(self, service, key, secret):
        return boto3.client(
            service, region_name=REGION, endpoint_url=self.endpoint, verify=self.roots,
            aws_access_key_id=key, aws_secret_access_key=secret,
        )

    @staticmethod
    def user(iam, name, actions, readable=None):
        iam.create_user(UserName=name)
        statements = [{"Effect": "Allow", "Action": actions, "Resource": "*"}]
        if readable:
            statements.append({"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": readable})
        document = {"Version": "2012-10-17", "Statement": statements}
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(document))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def versions(self, bucket):
        found = []
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for version in page.get("Versions", []):
                head = self.s3.head_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
                until = head.get("ObjectLockRetainUntilDate")
                found.append({
                    "key": version["Key"], "version": version["VersionId"], "mode": head.get("ObjectLockMode"),
                    "until": until and int(until.timestamp()),
                })
        return found

    def download(self, bucket, folder):
        count = 0
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", []):
                path = pathlib.Path(folder, found["Key"])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
                count += 1
        return count

    def destroy(self, bucket):
        gone = []
        for version in self.versions(bucket):
            try:
                self.s3.delete_object(Bucket=bucket, Key=version["key"], VersionId=version["version"])
                gone.append(version["key"])
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] != "AccessDenied":
                    raise
        return gone

    def put(self, bucket, key, text):
        self.s3.put_object(Bucket=bucket, Key=key, Body=text.encode())


def main():
    store = Store(*sys.argv[1:])
    users = [dict(zip(("key", "secret"), user)) for user in (store.writer, store.blind)]
    print(json.dumps({"port": store.port, "writer": users[0], "blind": users[1]}), flush=True)
    for line in sys.stdin:
        call = json.loads(line)
        print(json.dumps(getattr(store, call.pop("do"))(**call)), flush=True)


main()
