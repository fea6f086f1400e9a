"""The package files themselves, as the distributions' own tools see them."""
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from checks import contains, equal, only

ROOT = Path(__file__).resolve().parents[2]


def run(checks, packages, again):
    checks.begin("the packages")
    checks.that("packed twice they are identical", lambda: identical(packages, again))
    checks.that("lintian finds no errors and no warnings", lambda: lint(only(packages, "deb")))
    checks.that("systemd finds nothing wrong with the units", verify_units)
    checks.that("config.toml is the one conffile, in deb and rpm", lambda: conffiles(packages))
    checks.that("config.toml, its comments taken off, is a configuration", uncommented)
    checks.that("nothing of the machine that built it is in the program", lambda: no_paths(packages))
    checks.that("the bill of materials names every crate with licence and checksum", bill)


def output(*command, **options):
    done = subprocess.run([str(each) for each in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    return done.returncode, done.stdout.strip()


def missing(program):
    return None if shutil.which(program) else f"not tried: there is no {program} here"


def identical(packages, again):
    names = sorted(path.name for path in packages.iterdir())
    equal(sorted(path.name for path in again.iterdir()), names)
    for name in names:
        assert (packages / name).read_bytes() == (again / name).read_bytes(), f"{name} differs"
    return f"{len(names)} packages"


def lint(deb):
    return missing("lintian") or equal(output("lintian", "--allow-root", deb), (0, ""))


def verify_units():
    # It exits with 0 for keys that it does not know: all it says counts, but that our program is not there.
    for kind in ("--system", "--user"):
        units = sorted((ROOT / "systemd" / kind.strip("-")).iterdir())
        with tempfile.TemporaryDirectory() as directory:
            environment = os.environ | {"XDG_RUNTIME_DIR": directory}
            _, said = output("systemd-analyze", "verify", "--man=no", kind, *units, env=environment)
        complaints = [line for line in said.splitlines() if line and "/usr/bin/mcp-auth-proxy is not executable" not in line]
        equal(complaints, [])


def conffiles(packages):
    wanted = "/etc/mcp-auth-proxy/config.toml"
    equal(output("dpkg-deb", "--info", only(packages, "deb"), "conffiles"), (0, wanted))
    if not missing("rpm"):
        equal(output("rpm", "-qpc", only(packages, "rpm")), (0, wanted))


def uncommented():
    text = (ROOT / "packaging/config.toml").read_text()
    settings = "\n".join(line[1:] for line in text.splitlines() if re.match(r"#[\[a-z]", line))
    try:
        import tomllib
    except ImportError:
        return "not tried: Python before 3.11"
    tables = tomllib.loads(settings)
    equal(sorted(tables), ["admin", "credential", "listener", "log", "route", "upstream"])


def no_paths(packages):
    if os.environ.get("PREBUILT"):
        return "not tried: the program was not built by packaging/build"
    files = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(only(packages, "deb"))], check=True, stdout=subprocess.PIPE).stdout
    for path in (str(ROOT), str(Path.home() / ".cargo")):
        assert path.encode() not in files, f"{path} is in the package"


def bill():
    lock = (ROOT / "Cargo.lock").read_text()
    components = json.loads((ROOT / "target/package/tree/usr/share/doc/mcp-auth-proxy/sbom.cdx.json").read_text())["components"]
    for component in components:
        assert component["licenses"][0]["expression"] != "NOASSERTION", component["name"]
        contains(lock, component["hashes"][0]["content"])
    return f"{len(components)} crates"
