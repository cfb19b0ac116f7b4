import subprocess
import sys
import textwrap


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
