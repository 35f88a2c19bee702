"""``python -m normfold`` is the program."""

import os
import sys

from ._program import program

os.execv(program(), ["normfold", *sys.argv[1:]])
