"""What a hospital types starts at once: only what computes with a model loads torch, and a worker loads no scipy."""

import subprocess
import sys

LIGHT = ("command", "supervisor.run", "supernode.loop", "initialise", "checks.every", "approval", "ledger.account")
CODE = f"""
import sys
from importlib import import_module
for name in {LIGHT}:
    import_module("remind_client." + name)
    print(name, {{"torch", "pandas", "scipy"}} & set(sys.modules))
import remind_client.launcher.door, remind_client.site
print("door", {{"torch", "pandas", "scipy.interpolate", "scipy.optimize"}} & set(sys.modules))
"""


def test_heavy_libraries_are_loaded_where_they_are_needed():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*(f"{name} set()" for name in LIGHT), "door {'torch'}"]
