"""Hyperparameter search: Optuna proposes settings, ordinary runs evaluate them, workers share a study."""

from tenor.errors import UserError

try:
    import optuna
except ImportError as error:
    raise UserError("a sweep needs Optuna; install it: pip install 'tenor[sweep]'") from error

optuna.logging.set_verbosity(optuna.logging.ERROR)  # The sweep's table shows the same.
