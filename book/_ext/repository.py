"""Where the book's repository is on GitHub: one answer, for the site's links and for notebooks on Colab.

The answer is the variable VDIFF_REPOSITORY (https://github.com/OWNER/NAME, with /tree/BRANCH for a branch
that is not main), or else git's remote "origin" where that is on GitHub. Where neither is, nobody knows: then
the site has no launch buttons, and says in words where errors are reported.

    python book/_ext/repository.py    # writes it into the cell of each notebook that installs the package
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = re.compile(r"(?:https://|ssh://git@|git@)github\.com[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?(?:/tree/(.+?))?/?")
SERVICES = dict(notebook_interface="jupyterlab", binderhub_url="https://mybinder.org",
                colab_url="https://colab.research.google.com")
# Pages of notebooks have their source in notebooks/ (the .py file is made to be read), the others in book/.
SOURCE = ("{{ github_url }}/{{ github_user }}/{{ github_repo }}/edit/{{ github_version }}/"
          "{{ '' if file_name.startswith('notebooks/') else 'book/' }}"
          "{{ file_name.replace('.ipynb', '.py') }}")
CELL = re.compile(r'(repository = \\?")[^"\\]*')  # in NOTEBOOK.py, and in NOTEBOOK.ipynb, which is JSON


def setup(app):
    app.connect("config-inited", configure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def address():
    """(https://github.com/OWNER/NAME, branch), or None."""
    named = os.environ.get("VDIFF_REPOSITORY")
    match = ADDRESS.fullmatch(named or origin())
    if named and not match:
        raise ValueError(f"VDIFF_REPOSITORY={named} is no address on GitHub; it has the form "
                         "https://github.com/OWNER/NAME, with /tree/BRANCH behind it where that is not main")
    return match and (f"https://github.com/{match[1]}/{match[2]}", match[3] or "main")


def origin():
    try:
        command = ["git", "remote", "get-url", "origin"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git
        return ""


def configure(app, config):
    """The theme's buttons, where there is an address; where errors are reported, with or without one."""
    tracker = "the issue tracker of the repository that this book came with"
    if known := address():
        url, branch = known
        tracker = f'<a href="{url}/issues">the issue tracker</a>'
        launch = config.html_theme_options.get("launch_buttons", {})
        config.html_theme_options.update(
            repository_url=url, repository_branch=branch, path_to_docs="", use_issues_button=True,
            use_repository_button=True, use_source_button=True, launch_buttons=launch | SERVICES)
        config.html_context.update(edit_page_url_template=SOURCE, edit_page_provider_name="GitHub")
    config.html_theme_options["extra_footer"] += f" Errors: please report them in {tracker}."
    config.myst_substitutions = config.myst_substitutions | {"tracker": tracker}


def write_into_notebooks(url, folder):
    for path in sorted([*folder.glob("*.py"), *folder.glob("*.ipynb")]):
        path.write_text(CELL.sub(rf"\g<1>{url}", path.read_text(), count=1))


if __name__ == "__main__":
    if not (known := address()):
        sys.exit("no address is known; set VDIFF_REPOSITORY=https://github.com/OWNER/NAME")
    write_into_notebooks(known[0], ROOT / "notebooks")
