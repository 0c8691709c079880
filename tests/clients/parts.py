"""What each driver is made of, where its built form lies in the cache, and how it is started.

A built form lies in a folder named by the hash of its sources: present means up to date, and old ones disturb nobody.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "kafka"))
import artifacts  # noqa: E402

JAVA_CLIENT = os.environ.get("KAFKA_CLIENTS_VERSION", "")  # another version than the one in java/pom.xml
JAVA_OLD = ("2.8.2", "3.9.2")
TEST_TOOLS = ["pytest==8.4.2", "pytest-timeout==2.4.0", "py==1.11.0"]  # what kafka-python's tests import


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


def build_java(home, chosen=JAVA_CLIENT):
    version = [f"-Dkafka.version={chosen}"] if chosen else []
    step(["mvn", "-B", "-q", "--no-transfer-progress", "-Dstyle.color=never", "-f", HERE / "java/pom.xml",
          f"-Dbuild.dir={home}", *version, "compile"])


def build_python(home, requirements="requirements.txt"):
    step([sys.executable, "-m", "venv", home])
    step([home / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", HERE / "python" / requirements])


def build_go(home):
    step(["go", "build", "-trimpath", "-o", home / "franz-go", "."], cwd=HERE / "go")


def build_go_tests(home):
    step(["go", "test", "-c", "-trimpath", "-o", home / "kgo.test", "github.com/twmb/franz-go/pkg/kgo"], cwd=HERE / "go")


def build_kafka_python_tests(home):
    build_python(home)
    pip = [home / "bin/python", "-m", "pip", "-q", "--disable-pip-version-check"]
    step([*pip, "install", *TEST_TOOLS])
    pinned = next(line for line in (HERE / "python/requirements.txt").read_text().splitlines() if line.startswith("kafka-python=="))
    with tempfile.TemporaryDirectory() as scratch:
        step([*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", scratch, pinned])
        with tarfile.open(next(pathlib.Path(scratch).glob("kafka*.tar.gz"))) as sdist:
            # Its tests alone, beside the installed library.
            tests = [member for member in sdist.getmembers() if "/test/" in member.name]
            for member in tests:
                member.name = member.name.split("/", 1)[1]
            sdist.extractall(home, tests, filter="data")
    (home / "test/__init__.py").touch()
    shutil.copy(HERE / "conformance/service.py", home / "test/service.py")


def step(command, cwd=None):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, cwd=cwd)
    if done.returncode != 0:
        raise SystemExit(f"clients: failed: {' '.join(map(str, command))}")


def java(name, version):
    return Part(name, ["java/pom.xml", "java/src/**/*"], lambda home: build_java(home, version), version)


JAVA = java("java", JAVA_CLIENT)
OLD_JAVA = {f"java-{version.rsplit('.', 1)[0]}": java(f"java-{version}", version) for version in JAVA_OLD}
PYTHON = Part("python", ["python/requirements.txt"], build_python, sys.version)
OLD_LIBRDKAFKA = Part("python-old", ["python/requirements-old.txt"], lambda home: build_python(home, "requirements-old.txt"), sys.version)
GO = Part("go", ["go/*"], build_go)
KCAT = Debian("kcat")
KAFKA_PYTHON_TESTS = Part("kafka-python-tests", ["python/requirements.txt", "conformance/service.py"], build_kafka_python_tests,
                          f"{sys.version} {TEST_TOOLS}")
GO_TESTS = Part("go-tests", ["go/go.*"], build_go_tests)
ALL = [JAVA, *OLD_JAVA.values(), PYTHON, OLD_LIBRDKAFKA, GO, KCAT, KAFKA_PYTHON_TESTS]
FULL = [GO_TESTS]  # for the long versions of suites


def jvm(part):
    # Its own warnings are no events: on stdout it would mix them in. And it keeps no figures in files that are named by
    # process ids, which all processes of a machine share.
    return ["java", "-XX:-UsePerfData", "-Xlog:disable", "-Xlog:all=warning:stderr", "-Xms32m", "-Xmx256m", "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1", "-cp", f"{part.home}/classes:{part.home}/lib/*", "client.Main"]


def python(part, library):
    return [f"{part.home}/bin/python", f"{HERE}/python/driver", "--lib", library]


# Each library: what it needs, and its command line.
LIBRARIES = {
    "java": (JAVA, jvm(JAVA)),
    **{name: (part, jvm(part)) for name, part in OLD_JAVA.items()},
    "confluent": (PYTHON, python(PYTHON, "confluent")),
    "confluent-2.0": (OLD_LIBRDKAFKA, python(OLD_LIBRDKAFKA, "confluent")),
    "kafka-python": (PYTHON, python(PYTHON, "kafka-python")),
    "franz-go": (GO, [f"{GO.home}/franz-go"]),
    "kcat": (KCAT, [sys.executable, f"{HERE}/kcat/driver"]),
}
