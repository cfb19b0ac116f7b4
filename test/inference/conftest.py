import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def student_path(tmp_path_factory):
    from students import write_random_student

    return write_random_student(tmp_path_factory.mktemp("student"))
