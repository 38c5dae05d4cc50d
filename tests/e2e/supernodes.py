"""Hospitals that are plain SuperNodes, without a policy of their own."""

import subprocess

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from remind.consortium.enrolment import make_request, verify_request
from remind_server.consortium.folder import write_file
from tests.machine import free_ports


class Hospital:
    """A hospital's own machine: its key, its kit, its SuperNode."""

    def __init__(self, coordinator, name, home):
        self.coordinator, self.name, self.home = coordinator, name, home
        home.mkdir()
        self.kit = home / name
        coordinator("kit", coordinator.where, name, "--out", home)
        self.private = ec.generate_private_key(ec.SECP384R1())
        openssh = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        self.key = home / "site.key"
        write_file(self.key, self.private.private_bytes(*openssh))
        self.request = home / "request.json"
        self.request.write_text(make_request(self.private, consortium="heart", site=name, location="46.9,7.4"))
        self.processes = []

    @property
    def fingerprint(self):
        return verify_request(self.request.read_text()).fingerprint

    def enrol(self, code=0):
        c = self.coordinator
        return c("enrol", c.where, self.request, "--fingerprint", self.fingerprint, code=code)

    def start(self, *, ca=None, own="", key=True):
        (port,) = free_ports(1)
        self.log = self.home / f"supernode-{len(self.processes)}.log"
        command = [
            *("flower-supernode", "--superlink", f"localhost:{self.coordinator.port}", "--port", str(port)),
            *("--root-certificates", str(ca or self.kit / "ca.crt")),
            *(("--auth-supernode-private-key", str(self.key)) if key else ()),
            *(("--node-config", own) if own else ()),
        ]
        env = self.coordinator.env | {"FLWR_HOME": str(self.home / "flwr")}
        with self.log.open("w") as out:
            process = subprocess.Popen(command, env=env, cwd=self.home, stdout=out, stderr=out)
        self.processes.append(process)
        return process

    def refused(self, **options):
        """Start it, and return its output after it has ended with an error."""
        code = self.start(**options).wait(60)
        assert code != 0
        return self.log.read_text()

    def end(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
