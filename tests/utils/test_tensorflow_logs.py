import subprocess
import sys

RETRACING = """
import tfface
import tensorflow as tf
for _ in range(8):
    tf.function(lambda x: x + 1)(tf.constant(1.0))
traced = tf.function(lambda x, times: x * times)
for times in range(8):
    traced(tf.constant(1.0), times)
"""


def test_tensorflow_says_nothing_of_functions_traced_again():
    done = subprocess.run([sys.executable, "-c", RETRACING], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_package_imports_no_tensorflow_and_makes_its_first_import_quiet():
    code = "import sys, tfface; assert 'tensorflow' not in sys.modules; import keras, tensorflow"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
