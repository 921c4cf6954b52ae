"""Between JSON and the spaces of gym or gymnasium, whichever a toolkit has: a space is known by its class's name."""

import numbers
import warnings

import numpy


def read(space, given, name="observation"):
    """What JSON gave as the space has it: arrays, integers, or dictionaries and tuples of these.

    Raises ValueError, a sentence that says what was expected and what was given, with its place. Bounds of a Box are
    not looked at: environments leave them. Fractions that are whole count as integers, as CSV has no others.
    """
    names = [kind.__name__ for kind in type(space).__mro__]
    if "Dict" in names:
        return _members(space.spaces, given, name)
    if "Tuple" in names:
        if not isinstance(given, (list, tuple)) or len(given) != len(space.spaces):
            raise ValueError("{}: expected a list of {}, given {}".format(name, len(space.spaces), said(given)))
        return tuple(
            read(part, value, "{}[{}]".format(name, number))
            for number, (part, value) in enumerate(zip(space.spaces, given))
        )
    if "Discrete" in names:
        first = int(getattr(space, "start", 0))
        last = first + int(space.n) - 1
        number = numbers_of(given, name, (), True)
        if not first <= number <= last:
            raise ValueError("{}: expected an integer from {} to {}, given {}".format(name, first, last, number))
        return int(number)
    if "MultiDiscrete" in names or "MultiBinary" in names:
        found = numbers_of(given, name, space.shape, True)
        lowest = numpy.zeros(space.shape, int) + getattr(space, "start", 0)
        highest = lowest + space.nvec - 1 if "MultiDiscrete" in names else lowest + 1
        if (found < lowest).any() or (found > highest).any():
            limits = "{} to {}".format(lowest.tolist(), highest.tolist())
            raise ValueError("{}: expected integers from {}, given {}".format(name, limits, found.tolist()))
        return found.astype(space.dtype)
    if "Box" in names:
        found = numbers_of(given, name, space.shape, space.dtype.kind in "iu")
        if space.dtype.kind in "iu":
            limits = numpy.iinfo(space.dtype)
            if (found < limits.min).any() or (found > limits.max).any():
                raise ValueError("{}: expected integers from {} to {}".format(name, limits.min, limits.max))
        return found.astype(space.dtype)
    raise ValueError("{}: a space of the kind {} is not read from JSON".format(name, names[0]))


def write(value):
    """A space's value as JSON has it: lists, numbers, dictionaries."""
    if isinstance(value, dict):
        return {str(name): write(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [write(member) for member in value]
    return value.tolist() if isinstance(value, (numpy.ndarray, numpy.generic)) else value


def said(given):
    """What was given, in words: kind and size, never all of it."""
    if isinstance(given, dict):
        return "an object with {}".format(", ".join(repr(name) for name in sorted(given, key=str)) or "nothing")
    if isinstance(given, bool) or given is None or isinstance(given, str):
        return {True: "true", False: "false", None: "null"}.get(given, "text")
    if isinstance(given, numbers.Number):
        return str(given)
    try:
        return _shape(numpy.shape(given))
    except ValueError:
        return "a list with rows of different lengths"


def _shape(shape):
    if not shape:
        return "one number"
    return "{} number{}".format(" x ".join(str(size) for size in shape), "" if tuple(shape) == (1,) else "s")


def _members(spaces, given, name):
    if not isinstance(given, dict) or set(given) != set(spaces):
        wanted = ", ".join(repr(member) for member in spaces)
        raise ValueError("{}: expected an object with {}, given {}".format(name, wanted, said(given)))
    # In the order of the space: what flattens them goes by it.
    return type(spaces)(
        (member, read(space, given[member], "{}.{}".format(name, member))) for member, space in spaces.items()
    )


def numbers_of(given, name, shape, whole=False):
    """An array of that shape; a flat list of as many numbers is taken too, as a row of CSV has no other form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lists with rows of different lengths
        try:
            found = numpy.asarray(given)
        except ValueError:
            found = numpy.asarray(None)
    expected = _shape(shape)
    if isinstance(given, dict) or found.dtype.kind not in "biuf":
        raise ValueError("{}: expected {}, given {}".format(name, expected, _not_numbers(given)))
    if found.shape != tuple(shape):
        size = int(numpy.prod(shape, dtype=int))
        if found.size != size or (found.ndim > 1 and shape):
            raise ValueError("{}: expected {}, given {}".format(name, expected, _shape(found.shape)))
        found = found.reshape(shape)
    if not numpy.isfinite(found).all():
        raise ValueError("{}: expected {}, given some that are not finite".format(name, expected))
    if whole and (found != numpy.floor(found)).any():
        raise ValueError("{}: expected whole numbers, given {}".format(name, numpy.ravel(found)[0]))
    return found


def _not_numbers(given):
    return said(given) + " that are not all numbers" if isinstance(given, (list, tuple)) else said(given)
