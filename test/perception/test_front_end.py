import subprocess
import sys
import textwrap

from evdistill_core.perception.front_end import SHIPPED_STUDENT, check_student
from evdistill_core.perception.parameters import SegmentationParameters


def test_the_robots_path_loads_neither_torch_nor_training(tiny_student):
    code = f"""
        import sys
        from evdistill_core.perception.front_end import FrontEnd, open_student, warm_up
        from evdistill_core.perception.parameters import SegmentationParameters
        parameters = SegmentationParameters(student={str(tiny_student)!r}, device="cpu")
        student, runner = open_student(parameters)
        warm_up(student, runner, parameters, size=(48, 64))
        front = FrontEnd(
            student, runner, parameters, publish=print, is_wanted=lambda _: True, node="n"
        )
        front.start()
        front.stop()
        heavy = {{"torch", "matplotlib", "av", "onnx", "lightning_fabric"}} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)


def test_without_a_name_the_student_that_comes_with_the_package():
    student = check_student(SegmentationParameters())
    assert student.path == SHIPPED_STUDENT
    assert student.info.task == "segmentation"
