"""Score a student on labelled windows: IoU of each class, near events and everywhere.

evdistill simulate data/camvid out/simulated --split val --count 64
python examples/08_score_a_student.py out/simulated [STUDENT]
"""

import sys

import evdistill_core as evdistill

dataset = sys.argv[1] if len(sys.argv) > 1 else "out/simulated"
student = sys.argv[2] if len(sys.argv) > 2 else evdistill.Student.load()
for name, result in evdistill.evaluate(student, dataset, out="out/examples/evaluation").items():
    print(f"{name}: {result.summary}")
print("report: out/examples/evaluation/report.html")
