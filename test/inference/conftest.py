import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def student_path(tmp_path_factory):
    from made_once import once
    from students import write_random_student

    return once(tmp_path_factory, "random.evstudent", write_random_student)
