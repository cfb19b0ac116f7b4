"""Train on masks of your own with classes of your own; things become boxes.

python examples/05_own_classes.py [FOLDER WITH images/train AND labels/train] [CLASS FILE]
"""

import sys
from pathlib import Path

import evdistill_core as evdistill

images = sys.argv[1] if len(sys.argv) > 1 else "data/camvid"
class_file = Path(sys.argv[2] if len(sys.argv) > 2 else "out/examples/classes.yaml")
if not class_file.exists():
    class_file.parent.mkdir(parents=True, exist_ok=True)
    class_file.write_text("""\
classes:
  - {name: road, ids: [3, 4], color: "#804080"}
  - {name: scenery, ids: [0, 1, 2, 5, 6, 7]}
  - {name: mover, ids: [8, 9, 10], color: "#00008e", thing: true}
ignore: [11]
""")
simulation = {"images": {"root": images, "split": "train"}, "height": 96, "width": 128}
experiment = {
    "name": "mine",
    "steps": 20,  # a few seconds, to see it work; a student that is of use takes thousands
    "batch_size": 4,
    "workers": 0,
    "network": {"name": "onboard-seg"},
    "data": {"train": [{"name": "moving", "simulation": simulation}]},
}
checkpoint = evdistill.train(experiment, "out/examples/mine", classes=class_file, overwrite=True)
evdistill.export_student(checkpoint, "out/examples/mine.evstudent")
student = evdistill.Student.load("out/examples/mine.evstudent")
print(student.classes.names)
