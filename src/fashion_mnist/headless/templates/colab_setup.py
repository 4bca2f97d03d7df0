# @title Set-up: run this cell first {display-mode: "form"}
def set_up(needed, digest, payload):
    """Unpack the study's package from this cell, install what is missing here, and make the package importable."""
    import base64
    import importlib.metadata
    import importlib.util
    import io
    import os
    import re
    import subprocess
    import sys
    import zipfile
    from pathlib import Path

    root = Path(os.environ.setdefault("FASHION_MNIST_ROOT", str(Path.cwd())))
    package = root / "fashion_mnist_package" / digest
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(payload)))
    for name in archive.namelist():
        ours = name.startswith("package/")
        path = package / name[len("package/") :] if ours else root / name
        if ours or not path.exists():  # results made here are kept
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))

    missing = [requirement for module, requirement in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        print("Installing", ", ".join(missing))
        present = {f"{each.name}=={each.version}" for each in importlib.metadata.distributions()}
        kept = sorted(each for each in present if re.fullmatch(r"\w[\w.-]*==\d[\w.+!]*", each))
        (package / "kept.txt").write_text("\n".join(kept))  # with which pip leaves these packages as they are
        pip = [sys.executable, "-m", "pip", "install", "-c", str(package / "kept.txt"), *missing]
        done = subprocess.run(pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"pip could not install {', '.join(missing)}:\n{done.stdout}")
        importlib.invalidate_caches()

    if str(package) not in sys.path:
        sys.path.insert(0, str(package))
        # Processes started from here (kernels, workers) need it too.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    for name in [name for name in sys.modules if name.split(".")[0] == "fashion_mnist"]:
        del sys.modules[name]
    import fashion_mnist

    print("fashion_mnist", fashion_mnist.__version__, "is in", package)


# Which packages are needed, and an archive written with base64: nothing to read from here on.
