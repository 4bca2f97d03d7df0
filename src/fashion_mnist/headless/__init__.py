"""How the study is run and shown: command line, runner, report, README's numbers, copies for Colab, the demo."""
