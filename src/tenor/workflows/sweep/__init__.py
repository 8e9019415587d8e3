"""The search for a configuration: Optuna proposes, ordinary runs answer, any number of workers share a study."""

from tenor.errors import UserError

try:
    import optuna
except ImportError as error:
    raise UserError("a sweep needs Optuna; install it: pip install 'tenor[sweep]'") from error

optuna.logging.set_verbosity(optuna.logging.ERROR)  # What it would say, the sweep's own table says.
