"""Scores without counts: validations far below chance, too good, unchanged, or those of a model of one class."""

from math import isfinite, log

import numpy as np

from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit, ValidationCourse
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.evl_chance import classes_never_learned
from tenor.checks.rules.evl_measures import is_never_right, is_of_one_true_class, joined, one_class_of, per_split
from tenor.runs.findings import RULE_SEVERITY, Finding

MIN_VALIDATIONS = 3
MIN_ROWS = 50
"""With fewer rows, half of chance is within the noise of an accuracy."""
FAR_BELOW = 0.5
"""Share of 1/K."""
FAR_BELOW_ANY = 0.05
"""Where K is not recorded: half of 1/10, below chance for up to ten classes."""
TRAINED = 0.5
"""A training accuracy that is above chance for any number of classes."""
LOW_FROM_THE_START, LEARNED_AT_FIRST, LEARNED_LOSS = 0.3, 0.6, 0.9 * float(np.log(2))
"""Accuracies of the validations and of the training rows, and the loss of those, for any number of classes."""
FALLEN = 0.03
"""The more a model learns of two classes, the fewer of the other one's rows it is right for."""
FAR_APART = 0.15
"""Of training and validation accuracy at the end: running means of a batch norm that are late have caught up then."""
PERFECT = 0.9995
NOT_PERFECT = 0.95
"""Five points below a validation without an error: more than dropout costs in a training accuracy at the end."""
FITTED = 0.1
"""Share of ln K: the model has fitted the training rows."""
ROSE, ROSE_FAR = 1.5, 2.0
"""Multiples of the loss that an accuracy allows: after two or three epochs of fine-tuning 1.2 to 1.4 is usual."""
MOST_CLASSES = 5
"""Taken where the number of classes is not recorded: as many as there are stars in a review."""
MANY_VALIDATIONS = 5
MOST_OF_ONE_CLASS = 0.75
"""A higher score that does not change may be that of a good model on a few rows."""
LONG_COURSE = 8
"""An accuracy that is the same in so many validations is no accident, also of a few dozen rows."""
FALLS = 0.95
SAME = 1e-9
SKEWED_SHARE, MIN_MINORITY = 0.9, 10
"""Share of one class above which always predicting it may be right, and the rows of other classes that are needed."""


@rule("EVL030", "error", symptoms=("below chance",), explains=("rising validation loss",), says_why=False)
def far_below_chance(evaluation: EvaluationEvidence) -> Finding | None:
    """The validation accuracy is far below chance

    Measures: the median accuracy of the later half of a run's validations, or that of the last evaluation, and the
    training accuracy.

    Threshold: a median below half of 1/K; or at least three validations below it while the training accuracy is 0.5 or
    more, if the last validation accuracy is still 0.15 below the training accuracy. Where K is not recorded, 0.05
    instead of half of 1/K, if the training accuracy reached 0.5; or 0.3 in every validation, falling by 0.03, if the
    model was right for 0.6 of the training rows, or had a training loss below 0.9 ln 2, when the first one was made: a
    model that overfits is not so far above its validation from the start. At least three validations, or one on 50
    rows.

    Why: a model that has learned nothing is right for one row in K. One that is nearly always wrong was trained on
    other labels than it is validated on: the validation rows are of a class that is rare among the training rows, as
    when the last part of rows sorted by label is held out (Keras' `validation_split`), or the classes are numbered
    differently.

    Look-alikes: many classes that the model never saw. An accuracy that is counted per token, or as exact matches.

    Fix: count the labels of both splits; shuffle the rows before they are split, and map names to numbers once.

    Reference: Keras, `Model.fit` (`validation_split` takes the last rows, before shuffling).
    """
    course = evaluation.course
    if course is None:
        raise CannotTell("no accuracies of validations were recorded")
    accuracies = _finite(course.accuracy) or _of_last(evaluation, course)
    if len(course.accuracy) < MIN_VALIDATIONS and not any(c.n >= MIN_ROWS for c in evaluation.splits.values()):
        raise CannotTell(f"{len(course.accuracy)} validations; {MIN_VALIDATIONS} are needed, or one on {MIN_ROWS} rows")
    if not accuracies:
        raise CannotTell("no accuracies of validations were recorded")
    trained = max(_finite(course.training_accuracy), default=None)
    learned = course.n_classes is None and _has_learned_at_first(course) and len(accuracies) >= MIN_VALIDATIONS
    if course.n_classes is None and not learned and (trained is None or trained < TRAINED):
        raise CannotTell("neither the number of classes nor a training accuracy above chance is known")
    limit = FAR_BELOW_ANY if course.n_classes is None else FAR_BELOW / course.n_classes
    if learned and max(accuracies) < LOW_FROM_THE_START and accuracies[-1] < accuracies[0] - FALLEN:
        limit = LOW_FROM_THE_START
    later = accuracies[len(accuracies) // 2 :]
    middle = float(np.median(later))
    below = _below_while_trained(course, limit)
    if middle >= limit and not below:
        return None
    chance = "chance" if course.n_classes is None else f"1/{course.n_classes} = {1 / course.n_classes:.4f}"
    training = "" if trained is None else f", training accuracy up to {trained:.4f}"
    return Finding(
        observed=f"validation accuracy {middle:.4f} in the later half of {len(accuracies)} validations (median; "
        f"{accuracies[-1]:.4f} in the last){training}"
        if middle < limit
        else f"validation accuracy {below}, {accuracies[-1]:.4f} in the last{training}",
        expected=f"an accuracy above {chance}",
        n=len(accuracies),
        cause="the validation rows are of a class that is rare in training (sorted rows, of which the last part was "
        "held out), or their labels are numbered differently",
        fix="count the labels of both splits; shuffle the rows before splitting them, and map names to numbers once",
    )


@rule("EVL031", "warning", symptoms=("splits disagree",), explains=("low validation loss",), says_why=False)
def validation_too_good(evaluation: EvaluationEvidence) -> Finding | None:
    """The validation is perfect from the start, but training or test is not

    Measures: the accuracies of all validations of a run, the last training accuracy and the test accuracy.

    Threshold: at least three validations, each with 99.95% or more, and a last training accuracy or a test accuracy
    of 95% or less.

    Why: a model that makes errors on its own training rows does not make none on unseen ones. The validation rows are
    few, are in training, reveal their label, or the metric counts something else than right predictions.

    Look-alikes: a training accuracy that is lowered by augmentation or mixed labels; a handful of validation rows.

    Fix: count the validation rows and their labels, look for them among the training rows, and compute the accuracy
    from saved predictions.

    Reference: Kapoor and Narayanan 2023, Leakage and the reproducibility crisis in machine-learning-based science.
    """
    course = evaluation.course
    accuracies = [] if course is None else _finite(course.accuracy)
    if course is None or len(accuracies) < MIN_VALIDATIONS:
        raise CannotTell(f"{len(accuracies)} accuracies of validations; {MIN_VALIDATIONS} are needed")
    test = evaluation.splits.get("test")
    others = {"training": next(reversed(_finite(course.training_accuracy)), None)}
    others["test"] = None if test is None or test.accuracy is None else float(test.accuracy)
    known = {name: value for name, value in others.items() if value is not None}
    if not known:
        raise CannotTell("neither a training accuracy nor a test accuracy is recorded")
    worse = {name: value for name, value in known.items() if value <= NOT_PERFECT}
    if min(accuracies) < PERFECT or not worse:
        return None
    return Finding(
        observed=f"validation accuracy {min(accuracies):.4f} in all {len(accuracies)} validations; "
        + ", ".join(f"{name} accuracy {value:.4f}" for name, value in known.items()),
        expected="a validation accuracy not far above that of the other splits",
        n=len(accuracies),
        cause="the validation rows are in training, are of one class, reveal their label, or the metric is wrong",
        fix="count the validation rows and their labels, look for them in training, and recompute the accuracy",
    )


@rule(
    "EVL032",
    "error",
    symptoms=("bad result", "one class predicted"),
    explains=("class never predicted", "low accuracy", "unchanged score"),
    says_why=False,
)
def scores_of_one_class(evaluation: EvaluationEvidence) -> Finding | None:
    """The scores are those of a model that predicts one class

    Measures: the recall of each class, Matthews' correlation coefficient (MCC), and the accuracy together with the
    macro F1 or the F1 of one class, where no confusion matrix is recorded.

    Threshold: a recall of 1 for one class and of 0 for every other one, an MCC of exactly 0, or, for an accuracy a, a
    macro F1 of exactly 2a / ((1 + a) K) with a whole number K of classes, within the rounding of both: exact
    invariants. An F1 of one class that is exactly 0. A warning where the accuracy is 0.9 or more.

    Why: all of them follow from predicting one class for every row. An MCC is 0 by definition then; of a model that
    predicts several classes it is near 0 at worst, but not exactly 0. The F1 of the predicted class is 2a / (1 + a),
    and 0 for every other one.

    Look-alikes: a split whose rows are all of one class also has an MCC of 0 and the same F1; it passes where a report
    shows this in its supports. With very skewed classes, predicting the most frequent one nearly always may be right.
    Of two classes, a model that is right for rows of one class only has the same F1, although it predicts both.

    Fix: count the labels of the rows that were trained on; then follow the first finding that explains this one.

    Reference: Chicco and Jurman 2020, The advantages of the Matthews correlation coefficient.
    """
    measured = per_split(evaluation, _one_class_in_scores)
    found = [(name, claims, text) for name, claims, text in measured if text]
    if not found:
        return None
    return Finding(
        observed=joined([(name, text) for name, _, text in found]),
        expected="predictions of every class",
        n=sum(claims.n for _, claims, _ in found),
        cause="the model does not separate the classes, its decision threshold is outside the range of its scores, or "
        "the evaluated rows are all of one class",
        fix="count the labels of the training rows; then follow the first finding that explains this one",
        severity="warning"
        if all(
            (one_class_of(claims) or is_never_right(claims)) and (claims.accuracy or 0.0) >= SKEWED_SHARE
            for _, claims, _ in found
        )
        else RULE_SEVERITY,
    )


@rule("EVL033", "warning", symptoms=("unchanged score", "stalled loss", "flat loss"), says_why=False)
def score_never_changes(evaluation: EvaluationEvidence) -> Finding | None:
    """The validation score is the same in every validation

    Measures: the accuracies of all validations of a run and its training accuracies; where it records no accuracy, its
    main score, such as a macro F1.

    Threshold: exactly the same in at least five validations, and 0.75 or less. If the score is an accuracy, the
    training accuracy must be constant, too; where it is not recorded or changes, at least eight validations.

    Why: the predictions do not change, although the model is trained: it predicts one class for every row, or its
    weights do not change. A softmax over a single output (Keras' `Dense(1, activation="softmax")`) is 1 for every row:
    the loss may fall, but every prediction is class 1.

    Look-alikes: a few validation rows may give the same score by chance. LOS006 and EVL020 judge a loss that
    never falls, EVL024 training rows that are fitted.

    Fix: print the predicted classes of the validation rows, and count the labels of the training rows. With one output
    use a sigmoid, with a softmax one output for each class.

    Reference: Karpathy 2019, A Recipe for Training Neural Networks; Keras, `binary_crossentropy`.
    """
    course = evaluation.course
    scores = [] if course is None else _finite(course.accuracy) or _finite(course.score)
    if course is None or len(scores) < MANY_VALIDATIONS:
        raise CannotTell(f"{len(scores)} scores of validations; {MANY_VALIDATIONS} are needed")
    if max(scores) - min(scores) > SAME or max(scores) > MOST_OF_ONE_CLASS:
        return None
    if course.accuracy and classes_never_learned(course) is not None:
        return None  # EVL020 judges it.
    trained = _finite(course.training_accuracy)
    is_trained_too = len(trained) >= MANY_VALIDATIONS and max(trained) - min(trained) <= SAME
    if course.accuracy and not is_trained_too and len(scores) < LONG_COURSE:
        return None
    name = "accuracy" if course.accuracy else course.score_name
    training = f", training accuracy {trained[0]:.4f} in all records" if is_trained_too else ""
    falls = _falls(course)
    return Finding(
        observed=f"{name} {scores[0]:.4f} in all {len(scores)} validations{training}{falls}",
        expected="a score that changes",
        n=len(scores),
        cause="every row is predicted as one class, as by a softmax over a single output, although the loss falls"
        if falls
        else "the model predicts one class for every row, or its weights do not change",
        fix="print the predicted classes of the validation rows, and count the labels of the training rows; with one "
        "output use a sigmoid, with a softmax one output for each class",
    )


def _falls(course: ValidationCourse) -> str:
    """The fall of the validation loss, as text; empty if it does not fall by a twentieth."""
    losses = _finite(course.loss)
    if len(losses) < MIN_VALIDATIONS or losses[-1] > FALLS * losses[0]:
        return ""
    return f", while the validation loss falls from {losses[0]:.4g} to {losses[-1]:.4g}"


@rule("EVL036", "note", symptoms=("rising validation loss",), explains=("splits disagree",))
def final_losses_of_memorized_rows(evaluation: EvaluationEvidence) -> Finding | None:
    """The model overfits: the training loss is near 0, the validation loss far above what its accuracy allows

    Measures: the last training loss, and the accuracy and the loss of the last validation, where the course of the
    validation loss is not recorded.

    Threshold: a training loss below a tenth of ln K, and a validation loss of 1.5 times the entropy of the accuracy a,
    -a ln a - (1 - a) ln((1 - a) / (K - 1)). A note; a warning from twice that on, if the loss is also above ln K. Where
    K is not recorded, the condition on the validation loss must hold for up to five classes, the others for two.

    Why: a model that is right for a share a of the rows, and as sure as it is right, has at most this loss. A higher
    one comes from predictions that are wrong with great confidence, as of a model that has memorized its training rows.

    Look-alikes: label smoothing and regularization keep the training loss above 0, and such a run passes. With three
    validation losses or more LOS015 judges their course. Labels that mean other classes in the validation rows (EVL007)
    give such a loss together with an accuracy below chance.

    Fix: train for fewer epochs or stop early (`load_best_model_at_end` in `transformers`, `restore_best_weights` in
    Keras), and record the loss of every validation.

    Reference: Guo et al. 2017, On Calibration of Modern Neural Networks; Prechelt 1998, Early Stopping - But When?
    """
    course = evaluation.course
    if course is None or course.training_loss is None or not course.accuracy or not course.loss:
        raise CannotTell("a last training loss, validation accuracy and validation loss are needed")
    if len(course.loss) >= MIN_VALIDATIONS:
        raise CannotTell("the course of the validation loss is recorded, which LOS015 judges")
    share, loss, trained = course.accuracy[-1].value, course.loss[-1].value, course.training_loss
    if not (0 < share < 1 and isfinite(loss) and isfinite(trained)):
        raise CannotTell("the last accuracy or loss is not finite, or not in 0 … 1")
    k, most = course.n_classes or 2, course.n_classes or MOST_CLASSES
    if not 0 <= trained < FITTED * log(k) or share <= 1 / k or loss < ROSE * _allowed_loss(share, most):
        return None
    classes = f"{k} classes" if course.n_classes else f"up to {most} classes"
    return Finding(
        observed=f"training loss {trained:.4g} at the end; validation loss {loss:.4g} with an accuracy of {share:.4f}, "
        f"{loss / _allowed_loss(share, most):.1f} times what this accuracy allows for {classes}",
        expected=f"a validation loss below {ROSE:g} times {_allowed_loss(share, most):.4f}",
        n=1,
        cause="the model memorizes its training rows, and is sure of its errors on others",
        fix="train for fewer epochs or stop early, keep the best checkpoint, and record the loss of every validation",
        severity="warning" if loss > log(k) and loss >= ROSE_FAR * _allowed_loss(share, k) else RULE_SEVERITY,
    )


def _has_learned_at_first(course: ValidationCourse) -> bool:
    """Whether the training rows were mostly right when the first validation was made."""
    first = next(iter(_finite(course.training_accuracy)), 0.0)
    loss = course.first_training_loss
    return first >= LEARNED_AT_FIRST or (loss is not None and loss < LEARNED_LOSS)


def _below_while_trained(course: ValidationCourse, limit: float) -> str:
    """The validations far below chance while the training accuracy is not, as text; empty if they are fewer than three,
    or if the last one has caught up."""
    trained = {point.step: point.value for point in course.training_accuracy}
    paired = [(point.value, trained[point.step]) for point in course.accuracy if point.step in trained]
    below = [value for value, training in paired if value < limit and training >= TRAINED]
    if len(below) < MIN_VALIDATIONS or not paired or paired[-1][1] - paired[-1][0] < FAR_APART:
        return ""
    return f"at most {max(below):.4f} in {len(below)} of {len(course.accuracy)} validations"


def _allowed_loss(share: float, k: int) -> float:
    """The largest mean loss of a model that is right for this share of the rows, and as sure as it is right."""
    return -share * log(share) - (1 - share) * log((1 - share) / (k - 1))


def _finite(points: tuple[ValidationPoint, ...]) -> list[float]:
    return [point.value for point in points if isfinite(point.value)]


def _of_last(evaluation: EvaluationEvidence, course: ValidationCourse) -> list[float]:
    """The accuracy of the last evaluation, if no validation records one."""
    claims = evaluation.splits.get("validation")
    return [] if course.accuracy or claims is None or claims.accuracy is None else [float(claims.accuracy)]


def _one_class_in_scores(claims: ReportedSplit) -> str:
    """What shows that one class was predicted, as text; empty if nothing does."""
    if claims.confusion is not None or claims.predicted is not None:
        raise CannotTell("the counts are known")
    if is_of_one_true_class(claims.report):
        raise CannotTell("all evaluated rows are of one class")  # Then the MCC is 0, whatever is predicted.
    recalls = claims.recalls or {}
    k = one_class_of(claims)
    if len(recalls) < 2 and claims.mcc is None and (claims.accuracy is None or claims.macro_f1 is None):
        raise CannotTell("neither the recall of each class, an MCC, nor accuracy and macro F1 are recorded")
    all_right = [name for name, value in recalls.items() if value >= PERFECT]
    if len(all_right) == 1 and len(recalls) > 1 and sum(recalls.values()) <= 1 + SAME:
        others = ", ".join(name for name in recalls if name not in all_right)
        return f"every row is predicted as {all_right[0]}: its recall is 1, that of {others} 0"
    has_few_others = 0 < (1 - (claims.accuracy or 0.0)) * claims.n < MIN_MINORITY
    if k is not None and not has_few_others:
        return _one_class_text(claims, k)
    if is_never_right(claims) and not has_few_others:
        return f"accuracy {claims.accuracy:.4f}, F1 0: no row of this F1's class is predicted as it"
    return "an MCC of exactly 0: one class for every row" if claims.mcc == 0 else ""


def _is_skewed(claims: ReportedSplit) -> bool:
    """Whether one class has nearly all rows, so that predicting it is nearly always right."""
    known = one_class_of(claims) is not None or is_never_right(claims)
    return known and (claims.accuracy or 0.0) >= SKEWED_SHARE


def _one_class_text(claims: ReportedSplit, k: int) -> str:
    scores = f"accuracy {claims.accuracy:.4f} and {claims.macro_name} {claims.macro_f1:.4f}"
    if k == 1:
        return f"{scores} are exactly those of predicting the class of this F1 for every row"
    loss = (
        f"; loss {claims.loss:.4f}, ln {k} = {log(k):.4f}" if claims.loss is not None and isfinite(claims.loss) else ""
    )
    return f"{scores} are exactly those of predicting one class of {k} for every row{loss}"


LEAST_OF_A_WRONG_ROW = float(np.log(2))
"""In nats: another class has a larger probability than the right one, which is therefore below 1/2."""

TOO_LOW = 0.9
"""Of the least loss: means over batches in which the last one is smaller differ from means over rows."""


@rule("EVL037", "warning", explains=("low accuracy", "unchanged score"))
def loss_too_low_for_the_accuracy(evaluation: EvaluationEvidence) -> Finding | None:
    """The loss is lower than the accuracy allows

    Measures: the mean cross-entropy of an evaluation, compared with the share of wrong rows times ln 2.

    Threshold: 10% below it in any evaluation that has both numbers; an exact inequality for the cross-entropy, but a
    warning, because the loss may be another one.

    Why: a row that is predicted wrongly gives its own class a probability below 1/2, so it costs at least ln 2. With
    88% wrong rows the mean is at least 0.61. A smaller loss shows that the accuracy is no share of the rows: the number
    of right rows was divided by the number of batches, a percentage was divided once too often, or the two numbers
    belong to different rows.

    Look-alikes: a focal loss, and class weights that are small for the wrong rows, can be lower.

    Fix: divide the number of right rows by the number of rows.

    Reference: Murphy 2022, Probabilistic Machine Learning, chapter 10 (the log loss bounds the 0-1 loss).
    """
    pairs = _losses_and_accuracies(evaluation)
    if not pairs:
        raise CannotTell("no evaluation with a loss and an accuracy is recorded")
    wrong = [(loss, accuracy) for loss, accuracy in pairs if loss < TOO_LOW * (1 - accuracy) * LEAST_OF_A_WRONG_ROW]
    if not wrong:
        return None
    loss, accuracy = max(wrong, key=lambda pair: (1 - pair[1]) * LEAST_OF_A_WRONG_ROW - pair[0])
    return Finding(
        observed=f"loss {loss:.4g} with an accuracy of {accuracy:.2%}",
        expected=f"a loss of at least {(1 - accuracy) * LEAST_OF_A_WRONG_ROW:.4g}: each wrong row costs ln 2 or more",
        n=len(pairs),
        cause="the accuracy is not the share of the right rows, or the loss is no cross-entropy",
        fix="divide the number of right rows by the number of rows, not of batches",
    )


def _losses_and_accuracies(evaluation: EvaluationEvidence) -> list[tuple[float, float]]:
    """Of the evaluated splits, the validations during training, and the last training figures; accuracies as shares."""
    pairs = [(claims.loss, claims.accuracy) for claims in evaluation.splits.values()]
    course = evaluation.course
    if course is not None:
        losses = {point.step: point.value for point in course.loss}
        pairs += [(losses.get(point.step), point.value) for point in course.accuracy]
        # Means of the same epoch; elsewhere the loss may be that of the last batch.
        pairs += [(course.training_loss, point.value) for point in course.training_accuracy[-1:] if course.by_epoch]
    shares = [
        (loss, accuracy / 100 if 1 < accuracy <= 100 else accuracy)
        for loss, accuracy in pairs
        if loss is not None and accuracy is not None
    ]
    return [(loss, accuracy) for loss, accuracy in shares if np.isfinite(loss) and 0 <= accuracy <= 1]
