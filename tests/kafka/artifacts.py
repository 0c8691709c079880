"""Apache Kafka's jars: copied once from the Maven repository into the cache, one folder per version."""

import os
import pathlib
import subprocess
import sys
import tempfile

POM = pathlib.Path(__file__).resolve().parent / "pom.xml"


def cache():
    """The folder for everything that is downloaded or built and must not lie in git."""
    chosen = os.environ.get("KAFKA_CUTOVER_CACHE")
    if chosen:
        return pathlib.Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "kafka-cutover"


def library(version):
    return cache() / "kafka" / version / "lib"


def install(version):
    """Returns the folder with the jars of `version`; fetches them if they are not there yet."""
    lib = library(version)
    if lib.is_dir():
        return lib
    print(f"kafka {version}: fetching its jars with mvn", file=sys.stderr)
    (cache() / "kafka").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache() / "kafka") as scratch:
        jars = pathlib.Path(scratch) / "lib"
        done = subprocess.run(
            ["mvn", "-B", "-q", "--no-transfer-progress", "-Dstyle.color=never", "-f", POM, f"-Dkafka.version={version}",
             "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}"],
            stdin=subprocess.DEVNULL, stdout=sys.stderr)
        if done.returncode != 0 or not any(jars.glob("kafka_2.13-*.jar")):
            raise SystemExit(f"rig: kafka {version}: mvn could not fetch it, see above")
        lib.parent.mkdir(exist_ok=True)
        try:
            jars.rename(lib)
        except OSError:  # another process was faster: its copy is as good
            if not lib.is_dir():
                raise
    return lib
