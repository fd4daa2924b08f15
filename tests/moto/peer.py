"""Another client's view of moto: makes the test's user, and reads what was launched."""

import base64
import json
import os
import sys
import urllib.request

import boto3

ENDPOINT = os.environ["MOTO_ENDPOINT"]


def client(service):
    return boto3.client(
        service,
        endpoint_url=ENDPOINT,
        region_name="us-west-1",
        aws_access_key_id="peer",
        aws_secret_access_key="peer",
    )


def free_calls(count):
    """Lets so many calls through unchecked, and checks all that follow."""
    request = urllib.request.Request(
        ENDPOINT + "/moto-api/reset-auth",
        data=str(count).encode(),
        headers={"Content-Type": "text/plain"},
        method="POST",
    )
    urllib.request.urlopen(request, timeout=10).read()


def user(permissions):
    """Makes a user that may do what the file lists, and nothing else."""
    with open(permissions, encoding="utf-8") as lines:
        actions = lines.read().split()
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    iam = client("iam")
    iam.create_user(UserName="launcher")
    iam.put_user_policy(
        UserName="launcher", PolicyName="listed", PolicyDocument=json.dumps(policy)
    )
    key = iam.create_access_key(UserName="launcher")["AccessKey"]
    return {"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}


def tags(item):
    return {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}


def instances():
    """Every instance with what the test wants to know."""
    free_calls(1000)
    ec2 = client("ec2")
    found = []
    for reservation in ec2.describe_instances()["Reservations"]:
        for item in reservation["Instances"]:
            name = item["InstanceId"]
            attribute = lambda which: ec2.describe_instance_attribute(
                InstanceId=name, Attribute=which
            )
            volumes = ec2.describe_volumes(
                Filters=[{"Name": "attachment.instance-id", "Values": [name]}]
            )["Volumes"]
            groups = ec2.describe_security_groups(
                GroupIds=[group["GroupId"] for group in item["SecurityGroups"]]
            )["SecurityGroups"]
            data = attribute("userData")["UserData"].get("Value", "")
            found.append(
                {
                    "id": name,
                    "state": item["State"]["Name"],
                    "type": item["InstanceType"],
                    "image": item["ImageId"],
                    "zone": item["Placement"]["AvailabilityZone"],
                    "token": item.get("ClientToken"),
                    "spot": item.get("InstanceLifecycle") == "spot",
                    "metadata": item["MetadataOptions"],
                    "tags": tags(item),
                    "shutdown": attribute("instanceInitiatedShutdownBehavior")[
                        "InstanceInitiatedShutdownBehavior"
                    ]["Value"],
                    "volumes": [
                        {
                            "gb": volume["Size"],
                            "type": volume["VolumeType"],
                            "encrypted": volume["Encrypted"],
                            "tags": tags(volume),
                        }
                        for volume in volumes
                    ],
                    "groups": [
                        {
                            "name": group["GroupName"],
                            "ingress": group["IpPermissions"],
                        }
                        for group in groups
                    ],
                    "user_data": base64.b64decode(data).decode("utf-8", "replace"),
                }
            )
    free_calls(0)
    return found


if __name__ == "__main__":
    command = {"user": user, "instances": instances}[sys.argv[1]]
    print(json.dumps(command(*sys.argv[2:])))
