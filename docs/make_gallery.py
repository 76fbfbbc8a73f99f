"""Make the documentation's gallery, `gallery.md` and its pictures, from a run of it, and keep the numbers of small runs for the tests.

sgdlimit gallery --fast --out DIR
sgdlimit gallery best-schedule --out DIR --force      # and those that the page has at full size
python docs/make_gallery.py DIR
"""

import json
import shutil
import sys
from pathlib import Path

from sgdlimit.gallery import CLAIMS, Check, find
from sgdlimit.gallery.folder import row

DOCS = Path(__file__).resolve().parent
HEAD = """# Gallery

Each claim of the theory as an experiment that can be run again. Every verdict rests on checks that could have come out otherwise; where
one does, the command says so.

```sh
sgdlimit gallery --list                  # the claims
sgdlimit gallery --fast                  # all of them, small: some minutes
sgdlimit gallery batch-size              # one of them at full size
sgdlimit gallery batch-size --settings my.toml
```

Each claim gets a folder: `page.html`, `figure.svg` and `figure.png`, `numbers.json` with all numbers, checks and the verdict, and
`settings.toml`, to be changed and given with `--settings`; `index.html` has them all. What the directory has of the same settings is not
computed again, so an interrupted gallery continues; other settings there need `--force`. The exit code is 0 if all verdicts hold and 1 if
one does not.

This page was made by `docs/make_gallery.py` from the command below each claim, {cpu:.0f} CPU-seconds in all; those with `--fast` are small.
± is one standard error.

| claim | verdict | CPU-seconds |
|---|---|---|
{claims}
"""
PART = """
## {title}

{words}

*{source}*

**The claim {verdict}**

![{caption}](images/gallery/{name}.png)

*{caption}*

{table}

<details><summary>What was checked: {count} statistics</summary>

{law}

{checks}

</details>

`sgdlimit gallery {name}{fast}`, {cpu:.0f} CPU-seconds.
"""


def table(rows):
    head, *body = [[str(cell).replace("|", "\\|") for cell in one] for one in rows]
    return "\n".join("| " + " | ".join(one) + " |" for one in (head, ["---"] * len(head), *body))


def section(name, done):
    claim = find(name)
    rows = [row(Check(**{key: one[key] for key in ("what", "value", "bound", "unit", "least")})) for one in done["checks"]]
    checks = [[one["what"], one["value"], one["bound"], "yes" if one["holds"] else "NO"] for one in rows]
    return PART.format(
        title=claim.title,
        name=name,
        words=claim.words,
        source=claim.source,
        verdict=done["verdict"],
        caption=claim.caption,
        table=table(claim.table(done["numbers"])),
        law=done["law"],
        count=len(checks),
        checks=table([["statistic", "value", "bound", "holds"], *checks]),
        fast=" --fast" if done["fast"] else "",
        cpu=done["cpu_seconds"],
    )


def make(run: Path, docs: Path = DOCS):
    done = {name: json.loads((run / name / "numbers.json").read_text(encoding="utf-8")) for name in CLAIMS}
    pictures = docs / "images" / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    for name in CLAIMS:
        shutil.copy(run / name / "figure.png", pictures / f"{name}.png")
    anchor = lambda title: "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c == "-")
    claims = "\n".join(
        f"| [{title}](#{anchor(title)}) | {'holds' if one['holds'] else '**does not hold**'} | {one['cpu_seconds']:.0f} |"
        for title, one in ((find(name).title, one) for name, one in done.items())
    )
    head = HEAD.format(cpu=sum(one["cpu_seconds"] for one in done.values()), claims=claims)
    (docs / "gallery.md").write_text(head + "".join(section(name, one) for name, one in done.items()), encoding="utf-8")
    kept = docs.parent / "tests" / "data" / "gallery.json"
    numbers = json.loads(kept.read_text(encoding="utf-8")) | {name: rounded(one["numbers"]) for name, one in done.items() if one["fast"]}
    kept.write_text(json.dumps(numbers, separators=(",", ":")) + "\n", encoding="utf-8")


def rounded(value):
    """Numbers to six digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    make(Path(sys.argv[1]))
