"""The launch files that the documentation shows."""

from pathlib import Path
import re

PAGE = Path(__file__).parents[2] / 'docs' / 'setups.md'
FENCES = {'py': 'python', 'xml': 'xml', 'yaml': 'yaml'}
"""How a language is called where its text begins, by the suffix of its files."""


def documented(language):
    """Return the examples of launch files in a language, of those in `FENCES`."""
    text = PAGE.read_text(encoding='utf-8').split('## From a launch file of your own')[1]
    return re.findall(rf'```{FENCES[language]}\n(.*?)```', text.split('\n## ')[0], re.DOTALL)
