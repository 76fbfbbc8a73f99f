"""What all tests share: a cache of compiled programs, new in every run, for this process, its neighbours and the commands they start."""

import pytest

from sgdlimit.settings.run import use_compilation_cache


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory, worker_id):
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str((base if worker_id == "master" else base.parent) / "cache"))
        use_compilation_cache()
        yield
