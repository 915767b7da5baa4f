import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, subprocess, sys, threading
from assay_serving.adapter_process import prefer_this_process
prefer_this_process()
policies = [os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK]
thread = threading.Thread(target=lambda: policies.append(os.sched_getscheduler(0)))
thread.start(), thread.join()
child = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]
print(*policies, subprocess.check_output(child, text=True))
"""


def _may_be_preferred() -> bool:
    attempt = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    return subprocess.run([sys.executable, "-c", attempt], stderr=subprocess.DEVNULL).returncode == 0


@pytest.mark.skipif(not hasattr(os, "SCHED_RR"), reason="Linux' scheduling policies")
def test_only_the_thread_that_takes_times_is_preferred_not_what_it_starts() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, check=True, text=True, timeout=60
    )
    own, thread, child = (int(policy) for policy in printed.stdout.split())
    assert own == (os.SCHED_RR if _may_be_preferred() else os.SCHED_OTHER)
    assert thread == child == os.SCHED_OTHER
