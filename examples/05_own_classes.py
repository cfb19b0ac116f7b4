"""Train on masks of your own with classes of your own; things become boxes.

python examples/05_own_classes.py [FOLDER WITH images/train AND labels/train, CLASS FILE]

Without a folder it draws images, whose labels are 0 road, 1 houses and sky, 2 vehicle, 3 human.
"""

import sys
from pathlib import Path

from draw_images import labelled_images

import evdistill_core as evdistill

if len(sys.argv) == 2:
    sys.exit("name the class file behind the folder, or neither to train on drawn images")
images = labelled_images(sys.argv[1] if len(sys.argv) > 2 else None)
class_file = Path(sys.argv[2] if len(sys.argv) > 2 else images / "movers.yaml")
if len(sys.argv) == 1:
    class_file.write_text("""\
classes:
  - {name: road, ids: [0], color: "#804080"}
  - {name: scenery, ids: [1]}
  - {name: mover, ids: [2, 3], color: "#00008e", thing: true}
""")
simulation = {"images": {"root": str(images), "split": "train"}, "height": 96, "width": 128}
experiment = {
    "name": "mine",
    "steps": 20,  # a few seconds, to see it work; a student that is of use takes thousands
    "batch_size": 4,
    "workers": 0,
    "network": {"name": "onboard-seg", "options": {"width": 0.25}},
    "data": {"train": [{"name": "moving", "simulation": simulation}]},
}
checkpoint = evdistill.train(experiment, "out/examples/mine", classes=class_file, overwrite=True)
evdistill.export_student(checkpoint, "out/examples/mine.evstudent")
student = evdistill.Student.load("out/examples/mine.evstudent")
print(student.classes.names)
