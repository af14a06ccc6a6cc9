"""The life of an image through openstacksdk; every step is an assertion.

usage: sdk.py FILE      (cloud settings from OS_* variables)
"""

import hashlib
import os
import sys

import openstack

path = sys.argv[1]
cloud = openstack.connect()
size = os.path.getsize(path)
with open(path, "rb") as file:
    md5 = hashlib.file_digest(file, "md5").hexdigest()

image = cloud.image.create_image(
    name="lab-sdk", filename=path, disk_format="vmdk", container_format="bare", visibility="private", tags=["lab"]
)
shown = cloud.image.get_image(image.id)
assert (shown.status, shown.size, shown.checksum) == ("active", size, md5), shown
assert shown.hash_algo == "sha512" and len(shown.hash_value) == 128, shown

cloud.image.update_image(shown, min_disk=1, os_distro="debian")
shown = cloud.image.get_image(image.id)
assert shown.min_disk == 1 and shown.os_distro == "debian", shown

cloud.image.add_tag(image.id, "sdk")
assert sorted(cloud.image.get_image(image.id).tags) == ["lab", "sdk"]
cloud.image.remove_tag(image.id, "sdk")

others = [cloud.image.create_image(name=f"lab-sdk-{n}", disk_format="raw", container_format="bare").id for n in range(5)]
paged = [found.id for found in cloud.image.images(limit=2)]
assert len(paged) == len(set(paged)) and set(others) | {image.id} <= set(paged), paged
assert cloud.image.find_image("lab-sdk").id == image.id

# The SDK checks the digest itself while it streams.
with open(path + ".sdk", "wb") as target:
    cloud.image.download_image(shown, output=target)
with open(path + ".sdk", "rb") as file:
    assert hashlib.file_digest(file, "md5").hexdigest() == md5
os.unlink(path + ".sdk")

for one in [*others, image.id]:
    cloud.image.delete_image(one, ignore_missing=False)
assert cloud.image.find_image(image.id, ignore_missing=True) is None
