"""``python -m fashion_mnist`` is ``fashion-mnist``."""

from fashion_mnist.headless.cli import main

raise SystemExit(main())
