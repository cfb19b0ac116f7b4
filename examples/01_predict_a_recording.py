"""Segment a recording and print what was seen, window by window.

python examples/01_predict_a_recording.py [RECORDING]
"""

import sys

import evdistill_core as evdistill

path = sys.argv[1] if len(sys.argv) > 1 else "demo/davis346_street.mcap"
student = evdistill.Student.load()  # the one that comes with the package
print(student)

for result in student.predict(path):
    print(result)
    for detection in result.detections:
        box = detection.box_xyxy
        print(f"  {detection.class_name} {detection.track_id}: {detection.score:.2f} at {box}")

print("picture of the last window:", result.save("out/examples/last_window.png"))
