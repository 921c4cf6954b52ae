"""Convert between JSON values and values of gym or gymnasium spaces.

A space is recognized by the name of its class, so that neither library has to be imported.
"""

import numbers
import warnings

import numpy


def read(space, value, name="observation"):
    """Return the JSON value `value` as a value of `space`: an array, an integer, or a dictionary or tuple of these.

    Raises ValueError with what was expected and what was given; the message begins with `name`. The bounds of a Box are
    not checked, because environments exceed them. Whole fractions such as 2.0 count as integers: CSV has only floats.
    """
    names = [kind.__name__ for kind in type(space).__mro__]
    if "Dict" in names:
        return _members(space.spaces, value, name)
    if "Tuple" in names:
        if not isinstance(value, (list, tuple)) or len(value) != len(space.spaces):
            raise ValueError("{}: expected a list of {}, given {}".format(name, len(space.spaces), description(value)))
        return tuple(
            read(part, item, "{}[{}]".format(name, number))
            for number, (part, item) in enumerate(zip(space.spaces, value))
        )
    if "Discrete" in names:
        first = int(getattr(space, "start", 0))
        last = first + int(space.n) - 1
        number = read_numbers(value, name, (), True)
        if not first <= number <= last:
            raise ValueError("{}: expected an integer from {} to {}, given {}".format(name, first, last, number))
        return int(number)
    if "MultiDiscrete" in names or "MultiBinary" in names:
        array = read_numbers(value, name, space.shape, True)
        lowest = numpy.zeros(space.shape, int) + getattr(space, "start", 0)
        highest = lowest + space.nvec - 1 if "MultiDiscrete" in names else lowest + 1
        if (array < lowest).any() or (array > highest).any():
            limits = "{} to {}".format(lowest.tolist(), highest.tolist())
            raise ValueError("{}: expected integers from {}, given {}".format(name, limits, array.tolist()))
        return array.astype(space.dtype)
    if "Box" in names:
        array = read_numbers(value, name, space.shape, space.dtype.kind in "iu")
        if space.dtype.kind in "iu":
            limits = numpy.iinfo(space.dtype)
            if (array < limits.min).any() or (array > limits.max).any():
                raise ValueError("{}: expected integers from {} to {}".format(name, limits.min, limits.max))
        return array.astype(space.dtype)
    raise ValueError("{}: a space of the kind {} is not read from JSON".format(name, names[0]))


def write(value):
    """Return `value`, a value of a space, as JSON types: lists, numbers and dictionaries."""
    if isinstance(value, dict):
        return {str(name): write(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [write(member) for member in value]
    return value.tolist() if isinstance(value, (numpy.ndarray, numpy.generic)) else value


def description(value):
    """Return a short description of the JSON value `value` for messages: a number itself, else the kind and size."""
    if isinstance(value, dict):
        return "an object with {}".format(", ".join(repr(name) for name in sorted(value, key=str)) or "nothing")
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return {True: "true", False: "false", None: "null"}.get(value, "text")
    if isinstance(value, numbers.Number):
        return str(value)
    try:
        return _shape(numpy.shape(value))
    except ValueError:
        return "a list with rows of different lengths"


def _shape(shape):
    if not shape:
        return "one number"
    return "{} number{}".format(" x ".join(str(size) for size in shape), "" if tuple(shape) == (1,) else "s")


def _members(spaces, value, name):
    if not isinstance(value, dict) or set(value) != set(spaces):
        expected = ", ".join(repr(member) for member in spaces)
        raise ValueError("{}: expected an object with {}, given {}".format(name, expected, description(value)))
    # Keep the order of the space: RLlib's preprocessors flatten the members in this order.
    return type(spaces)(
        (member, read(space, value[member], "{}.{}".format(name, member))) for member, space in spaces.items()
    )


def read_numbers(value, name, shape, whole=False):
    """Return `value`, a number or nested lists of numbers, as an array of `shape`.

    A flat list of the right length is accepted too, because a CSV row has no other form. `whole` requires whole
    numbers. Raises ValueError, whose message begins with `name`, for a value of another shape or with anything but
    finite numbers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns about lists with rows of different lengths
        try:
            array = numpy.asarray(value)
        except ValueError:
            array = numpy.asarray(None)
    expected = _shape(shape)
    if isinstance(value, dict) or array.dtype.kind not in "biuf":
        raise ValueError("{}: expected {}, given {}".format(name, expected, _not_numbers(value)))
    if array.shape != tuple(shape):
        size = int(numpy.prod(shape, dtype=int))
        if array.size != size or (array.ndim > 1 and shape):
            raise ValueError("{}: expected {}, given {}".format(name, expected, _shape(array.shape)))
        array = array.reshape(shape)
    if not numpy.isfinite(array).all():
        raise ValueError("{}: expected {}, given some that are not finite".format(name, expected))
    if whole and (array != numpy.floor(array)).any():
        raise ValueError("{}: expected whole numbers, given {}".format(name, numpy.ravel(array)[0]))
    return array


def _not_numbers(value):
    return description(value) + " that are not all numbers" if isinstance(value, (list, tuple)) else description(value)
