"""``python -m service.cli``: the command line where no script is installed."""

from service.cli.main import app

app(prog_name="selfnorm")
