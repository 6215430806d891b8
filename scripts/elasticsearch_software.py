"""Fetches the two Elasticsearch servers from Maven Central and knows the command that runs each.

8.19.21 is an official distribution made for plugin tests: complete, with few modules. Nothing newer is
published in that form, so 9.5.3 is put together from the server's own jars: the module layout that the server
expects, a few platform files of the 8.19.21 distribution, and a small Java program in place of the launcher.
Only the standard library is used: this runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Server version → oldest JDK that runs it.
OLDEST_JDK = {"8.19.21": 17, "9.5.3": 21}

#: Newest JDK that both servers were run with; a newer one is taken only where there is no other.
TESTED_JDK = 25

#: The Maven plugin that downloads; pinned so that a fetch means the same on every machine.
DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"

#: Writes the settings in the form in which the server's own launcher hands them over on standard input.
HANDSHAKE = """\
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import org.elasticsearch.bootstrap.ServerArgs;
import org.elasticsearch.common.io.stream.OutputStreamStreamOutput;
import org.elasticsearch.common.settings.KeyStoreWrapper;
import org.elasticsearch.common.settings.Settings;

/** Arguments: file to write; folders of the server, configuration and logs; process id file; key=value... */
public class Handshake {
    public static void main(String[] args) throws Exception {
        Settings.Builder settings = Settings.builder().put("path.home", args[1]).put("path.logs", args[3]);
        for (int i = 5; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            settings.put(args[i].substring(0, equals), args[i].substring(equals + 1));
        }
        boolean daemonize = true;
        boolean quiet = true;
        ServerArgs handshake = new ServerArgs(daemonize, quiet, Path.of(args[4]), KeyStoreWrapper.create(),
            settings.build(), Path.of(args[2]), Path.of(args[3]));
        try (OutputStream file = Files.newOutputStream(Path.of(args[0]));
             OutputStreamStreamOutput stream = new OutputStreamStreamOutput(file)) {
            handshake.writeTo(stream);
        }
    }
}
"""

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>gather</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>
  </dependencies>
</project>
"""


class SetupError(Exception):
    """Something that the user must mend first; the text is one line that says what."""


@dataclass(frozen=True)
class Account:
    """The user that runs the server. `uid` is None where that is simply who runs this script."""

    name: str
    uid: int | None = None
    gid: int | None = None

    def reaches(self, path: Path) -> bool:
        """Whether this user can enter (or, for a file, read) `path`."""
        test = ["/bin/sh", "-c", 'test -r "$1" && { test ! -d "$1" || test -x "$1"; }', "sh", str(path)]
        return subprocess.run(test, cwd="/", check=False, **self.switch()).returncode == 0

    def switch(self) -> dict[str, Any]:
        """Keyword arguments of `subprocess` that make a child run as this user."""
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}


def find_jdk(version: str, account: Account) -> Path:
    """The folder of a JDK that runs this server and that `account` can read; $ES_JAVA_HOME overrides."""
    needed = OLDEST_JDK[version]
    if named := os.environ.get("ES_JAVA_HOME"):
        if _jdk_version(Path(named)) < needed:
            raise SetupError(
                f"ES_JAVA_HOME={named}: not a JDK {needed} or newer, as Elasticsearch {version} needs"
            )
        return Path(named)
    found = {Path(os.environ["JAVA_HOME"])} if os.environ.get("JAVA_HOME") else set()
    if on_path := shutil.which("java"):
        found.add(Path(on_path).resolve().parent.parent)
    found.update(path for path in Path("/usr/lib/jvm").glob("*") if not path.is_symlink())
    fit = [path for path in found if _jdk_version(path) >= needed and account.reaches(path / "bin" / "javac")]
    if not fit:
        package = (
            "openjdk-17-jdk-headless" if needed <= 17 else f"openjdk-{needed}-jdk-headless or temurin-25-jdk"
        )
        raise SetupError(
            f"Elasticsearch {version} needs a JDK {needed} or newer: install the Debian package {package}, "
            "or set ES_JAVA_HOME"
        )
    return max(fit, key=lambda path: (_jdk_version(path) <= TESTED_JDK, _jdk_version(path)))


def _jdk_version(folder: Path) -> int:
    """The feature version of the JDK in `folder`, 0 where there is none."""
    try:
        release = (folder / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    match = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
    return int(match.group(1)) if match and (folder / "bin" / "javac").exists() else 0


def provide(version: str, cache: Path, jdk: Path) -> Path:
    """The folder of this server's software under `cache`, fetched first where it isn't there."""
    cache.mkdir(parents=True, exist_ok=True)
    cache.chmod(0o755)
    target = cache / f"elasticsearch-{version}"
    with _only_one(cache / ".lock"):
        if not target.is_dir():
            for leftover in cache.glob(".fetch-*"):
                shutil.rmtree(leftover)
            if version == "9.5.3":
                _install(cache, "8.19.21", jdk)
            _install(cache, version, jdk)
    return target


def _install(cache: Path, version: str, jdk: Path) -> None:
    """Gather the software beside its final name and move it there whole, so that half of it is never seen."""
    target = cache / f"elasticsearch-{version}"
    if target.is_dir():
        return
    print(f"fetching Elasticsearch {version} from Maven Central …", file=sys.stderr)
    work = Path(tempfile.mkdtemp(prefix=".fetch-", dir=cache))
    try:
        if version == "9.5.3":
            made = _assemble(version, work, cache / "elasticsearch-8.19.21", jdk)
        else:
            _copy(f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip", work)
            with zipfile.ZipFile(work / f"elasticsearch-{version}.zip") as archive:
                archive.extractall(work)
            made = work / f"elasticsearch-{version}"
        _make_readable(made)
        made.rename(target)
    finally:
        shutil.rmtree(work)


def _assemble(version: str, work: Path, older: Path, jdk: Path) -> Path:
    """Lay out a server from its jars: `lib/` for the server, `modules/` for the network layer."""
    made = work / "made"
    library, network = made / "lib", made / "modules" / "transport-netty4"
    _copy_with_dependencies("org.elasticsearch", "elasticsearch", version, library, work)
    _copy_with_dependencies("org.elasticsearch.plugin", "transport-netty4", version, network, work)
    # A class that both layers could load would be two classes: the module keeps only its own jars.
    for jar in network.glob("*.jar"):
        if (library / jar.name).exists():
            jar.unlink()
    _descriptors(network / f"transport-netty4-{version}.jar", network)
    _copy(f"org.elasticsearch:elasticsearch-entitlement-bridge:{version}", library / "entitlement-bridge")
    # What Maven Central has for no 9.x: generic files that did not change between the two versions. The
    # server insists on the console's folder although nothing here uses it.
    shutil.copytree(older / "lib" / "entitlement-agent", library / "entitlement-agent")
    shutil.copytree(older / "lib" / "platform", library / "platform")
    shutil.copytree(older / "lib" / "tools" / "ansi-console", library / "tools" / "ansi-console")
    (made / "plugins").mkdir()
    (made / "config").mkdir()
    shutil.copy(older / "config" / "log4j2.properties", made / "config")
    (made / "config" / "elasticsearch.yml").touch()
    source = work / "Handshake.java"
    source.write_text(HANDSHAKE, encoding="utf-8")
    _call([str(jdk / "bin" / "javac"), "-cp", f"{library}/*", "-d", str(made / "launcher"), str(source)])
    return made


def _descriptors(jar: Path, target: Path) -> None:
    """A module's descriptor and policy are inside its jar, the server reads them beside it."""
    prefix = "META-INF/es-plugins/transport-netty4/"
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if name.startswith(prefix) and not name.endswith("/"):
                (target / name.rpartition("/")[2]).write_bytes(archive.read(name))


def command(
    version: str, software: Path, node: Path, jdk: Path, heap: str, settings: dict[str, str]
) -> list[str]:
    """The command that runs the server with its configuration, logs and temporary files under `node`."""
    if version == "9.5.3":
        return _command_9(software, node, jdk, heap)
    # With -d the launcher ends when the server is up, and one Java process is left.
    options = [part for key, value in settings.items() for part in ("-E", f"{key}={value}")]
    return [
        "/bin/bash",
        str(software / "bin" / "elasticsearch"),
        "-d",
        "-p",
        str(node / "tmp" / "pid"),
        *options,
    ]


def handshake_command(software: Path, node: Path, jdk: Path, settings: dict[str, str]) -> list[str]:
    """The command that writes `node/tmp/handshake`, which server 9.5.3 reads on its standard input."""
    places = [node / "tmp" / "handshake", software, node / "config", node / "logs", node / "tmp" / "pid"]
    options = [f"{key}={value}" for key, value in settings.items()]
    java = [str(jdk / "bin" / "java"), "-cp", f"{software}/launcher:{software}/lib/*", "Handshake"]
    return [*java, *map(str, places), *options]


def _command_9(software: Path, node: Path, jdk: Path, heap: str) -> list[str]:
    """What the official launcher passes to the virtual machine, less the native vector library."""
    (bridge,) = (software / "lib" / "entitlement-bridge").glob("*.jar")
    properties = {
        "es.path.home": software,
        "es.path.conf": node / "config",
        "es.distribution.type": "zip",
        "es.java.type": "",
        "es.networkaddress.cache.ttl": 60,
        "es.networkaddress.cache.negative.ttl": 10,
        "java.awt.headless": "true",
        "file.encoding": "UTF-8",
        "jna.nosys": "true",
        "io.netty.noUnsafe": "true",
        "io.netty.noKeySetOptimization": "true",
        "io.netty.recycler.maxCapacityPerThread": 0,
        "log4j.shutdownHookEnabled": "false",
        "log4j2.disable.jmx": "true",
        "log4j2.formatMsgNoLookups": "true",
        "java.locale.providers": "CLDR",
        "org.apache.lucene.store.MMapDirectory.sharedArenaMaxPermits": 1,
        "org.elasticsearch.nativeaccess.enableVectorLibrary": "false",
        "java.io.tmpdir": node / "tmp",
        "jdk.attach.allowAttachSelf": "true",
    }
    native = "org.elasticsearch.nativeaccess,org.elasticsearch.foreign,org.elasticsearch.foreign.adapter"
    entitled = "org.elasticsearch.entitlement,java.logging,java.net.http,java.naming,jdk.net,jdk.zipfs"
    return [
        str(jdk / "bin" / "java"),
        *(f"-D{name}={value}" for name, value in properties.items()),
        *(
            f"-Xms{heap}",
            f"-Xmx{heap}",
            "-Xss1m",
            "-XX:+UseG1GC",
            "-XX:-OmitStackTraceInFastThrow",
            "-XX:+ExitOnOutOfMemoryError",
        ),
        f"-XX:ErrorFile={node}/logs/crash-%p.log",
        "-XX:+EnableDynamicAgentLoading",
        f"--enable-native-access={native},org.apache.lucene.core",
        "--illegal-native-access=deny",
        "--add-modules=jdk.incubator.vector,jdk.net,jdk.management.agent,ALL-MODULE-PATH",
        f"--patch-module=java.base={bridge}",
        f"--add-exports=java.base/org.elasticsearch.entitlement.bridge={entitled},jdk.management.agent",
        *("--module-path", str(software / "lib")),
        *("-m", "org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch"),
    ]


def _copy(artifact: str, target: Path) -> None:
    _maven("copy", f"-Dartifact={artifact}", f"-DoutputDirectory={target}")


def _copy_with_dependencies(group: str, artifact: str, version: str, target: Path, work: Path) -> None:
    pom = work / f"{artifact}.xml"
    pom.write_text(POM.format(group=group, artifact=artifact, version=version), encoding="utf-8")
    _maven("copy-dependencies", "-f", str(pom), "-DincludeScope=runtime", f"-DoutputDirectory={target}")


def _maven(goal: str, *options: str) -> None:
    if shutil.which("mvn") is None:
        raise SetupError("Maven is needed to fetch Elasticsearch: install the Debian package maven")
    _call(["mvn", "-B", "-q", "--strict-checksums", f"{DEPENDENCY_PLUGIN}:{goal}", *options])


def _call(arguments: list[str]) -> None:
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, cwd="/")
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise SetupError(f"{' '.join(arguments[:5])} … failed:\n{tail}")


def _make_readable(tree: Path) -> None:
    """Let every user read the software whatever the umask; only its owner may change it."""
    for folder, _, names in os.walk(tree):
        Path(folder).chmod(0o755)
        for name in names:
            Path(folder, name).chmod(0o644)


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
