"""Train a network of your own on windows simulated from labelled images, and run it.

python examples/04_own_network.py [FOLDER WITH images/train AND labels/train]

Without a folder it draws images. A folder may hold its classes in classes.yaml; without that file
its labels must be those of CamVid.
"""

import sys

from draw_images import labelled_images

import evdistill_core as evdistill

images = labelled_images(sys.argv[1] if len(sys.argv) > 1 else None)
classes = images / "classes.yaml"
simulation = {"images": {"root": str(images), "split": "train"}, "height": 96, "width": 128}
experiment = {
    "name": "tiny",
    "steps": 20,  # a few seconds, to see it work; a student that is of use takes thousands
    "batch_size": 4,
    "workers": 0,
    "network": {"name": "my_network:TinySeg", "options": {"width": 16}},
    "input": {"kind": "voxel", "bins": 3},
    "data": {"train": [{"name": "moving", "simulation": simulation}]},
}
checkpoint = evdistill.train(
    experiment,
    "out/examples/tiny",
    classes=classes if classes.exists() else "camvid11",
    overwrite=True,
)
# In a program that did not train it: evdistill.allow_plugins("my_network") first.
evdistill.export_student(checkpoint, "out/examples/tiny.evstudent")
student = evdistill.Student.load("out/examples/tiny.evstudent")
print(next(student.predict("demo/davis346_street.mcap")))
