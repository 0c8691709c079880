"""What each driver is made of, where its built form lies in the cache, and how it is started.

A built form lies in a folder named by the hash of its sources: present means up to date, and old ones disturb nobody.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "kafka"))
import artifacts  # noqa: E402

JAVA_CLIENT = os.environ.get("KAFKA_CLIENTS_VERSION", "")  # another version than the one in java/pom.xml


class Part:
    def __init__(self, name, sources, build, salt=""):
        self.name, self.build = name, build
        digest = hashlib.sha256(salt.encode())
        for path in sorted(path for pattern in sources for path in HERE.glob(pattern) if path.is_file()):
            digest.update(str(path.relative_to(HERE)).encode() + b"\0" + path.read_bytes())
        self.home = artifacts.cache() / "clients" / name / digest.hexdigest()[:16]

    def present(self):
        return self.home.is_dir()

    def install(self):
        self.home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=self.home.parent) as scratch:
            built = pathlib.Path(scratch) / "built"
            built.mkdir()
            self.build(built)
            try:
                built.rename(self.home)
            except OSError:  # another process was faster: its copy is as good
                if not self.present():
                    raise


class Debian:
    """A program of the distribution."""

    def __init__(self, name):
        self.name = name

    def present(self):
        return shutil.which(self.name) is not None

    def install(self):
        step(["apt-get", "install", "-y", "-q", "--no-install-recommends", self.name])


def build_java(home):
    version = [f"-Dkafka.version={JAVA_CLIENT}"] if JAVA_CLIENT else []
    step(["mvn", "-B", "-q", "--no-transfer-progress", "-Dstyle.color=never", "-f", HERE / "java/pom.xml",
          f"-Dbuild.dir={home}", *version, "compile"])


def build_python(home):
    step([sys.executable, "-m", "venv", home])
    step([home / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", HERE / "python/requirements.txt"])


def build_go(home):
    step(["go", "build", "-trimpath", "-o", home / "franz-go", "."], cwd=HERE / "go")


def step(command, cwd=None):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, cwd=cwd)
    if done.returncode != 0:
        raise SystemExit(f"clients: failed: {' '.join(map(str, command))}")


JAVA = Part("java", ["java/pom.xml", "java/src/**/*"], build_java, JAVA_CLIENT)
PYTHON = Part("python", ["python/requirements.txt"], build_python, sys.version)
GO = Part("go", ["go/*"], build_go)
KCAT = Debian("kcat")
ALL = [JAVA, PYTHON, GO, KCAT]

# Each library: what it needs, and its command line.
LIBRARIES = {
    "java": (JAVA, ["java", "-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                    "-cp", f"{JAVA.home}/classes:{JAVA.home}/lib/*", "client.Main"]),
    "confluent": (PYTHON, [f"{PYTHON.home}/bin/python", f"{HERE}/python/driver", "--lib", "confluent"]),
    "kafka-python": (PYTHON, [f"{PYTHON.home}/bin/python", f"{HERE}/python/driver", "--lib", "kafka-python"]),
    "franz-go": (GO, [f"{GO.home}/franz-go"]),
    "kcat": (KCAT, [sys.executable, f"{HERE}/kcat/driver"]),
}
