"""WebShop's search against real Lucene: the same terms, and the same 50 products in the same order.

Needs `java` (11 or later) and $AEM_ANSERINI_JAR, the jar inside pyserini's wheel, as the original WebShop uses it:

    pip download --no-deps pyserini==0.17.0
    unzip -j pyserini-0.17.0-py3-none-any.whl '*anserini-0.14.3-fatjar.jar'
    AEM_ANSERINI_JAR=anserini-0.14.3-fatjar.jar pytest tests/aem_envs/test_webshop_lucene.py

Documents are the embedded catalogue's, some with odd words put in, and some doubled, so that scores are equal.
"""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from aem_envs.webshop.search import IndexBuilder, SearchIndex
from aem_envs.webshop.search.analyser import analyse
from aem_envs.webshop.store import document
from envs_data.webshop.generator import EmbeddedCatalogue

JAR = os.environ.get("AEM_ANSERINI_JAR", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not JAR or not Path(JAR).is_file(), reason="$AEM_ANSERINI_JAR names no file (see the docstring)"
    ),
    pytest.mark.skipif(shutil.which("java") is None, reason="no java on the path"),
]

PROGRAM = """
import java.io.*; import java.nio.charset.StandardCharsets;
import io.anserini.analysis.*; import io.anserini.search.SimpleSearcher;
public class Lucene {
  public static void main(String[] a) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream out = new PrintStream(new FileOutputStream(a[0]), false, "UTF-8");
    SimpleSearcher s = a.length > 1 ? new SimpleSearcher(a[1]) : null;
    DefaultEnglishAnalyzer e = DefaultEnglishAnalyzer.newDefaultInstance();
    for (String l; (l = in.readLine()) != null; out.println()) {
      if (s != null) for (SimpleSearcher.Result r : s.search(l, 50)) out.print(r.docid + " ");
      else for (String t : AnalyzerUtils.analyze(e, l)) out.print(t + " ");
    }
    out.close();
  }
}
"""
ODD = (
    "women's Men’s 5.5' 12,000 3.5mm USB-C 100% 🎁 ❤️ 👩‍👧 👍🏽 🇩🇪🇫🇷 漢字 カタカナ 한국어 ไทยภาษา naïve CAFÉ İstanbul "
    "ΣΑΣ a_b 1:2 a:b don't O'Neill's #1 ™ ® ½ 𝗕𝗼𝗹𝗱 1️⃣ #️⃣ &amp; e.g. U.S.A. 24/7 w/ ___ ＦＵＬＬ １２３ "
    f"e\u0301 soft\u00adhyphen \u200d {'x' * 300} {'é' * 600}"
).split()
LETTERS = "aB1 2_.,:;'\"-s é٣’漢カあ가ก\u0e4c\u0301\u200d\u00adİΣ😀❤👩🏻🇦🇧\ufe0f\u20e3™#*\u2028𝐚ﬁ"


def lucene(folder: Path, lines: list[str], *arguments: str) -> list[list[str]]:
    """What the program answers to each line, as words."""
    (folder / "Lucene.java").write_text(PROGRAM, "utf-8")
    out = folder / "answers"
    command = ["java", "-cp", JAR, str(folder / "Lucene.java"), str(out), *arguments]
    subprocess.run(command, input="\n".join(lines) + "\n", encoding="utf-8", check=True, capture_output=True)
    answers = out.read_text("utf-8").split("\n")[:-1]
    assert len(answers) == len(lines)
    return [answer.split(" ")[:-1] for answer in answers]


def corpus(size: int) -> tuple[list[str], list[str]]:
    """Documents and 300 queries: instructions, a few words, odd words, repeated words."""
    rng = random.Random(7)
    texts, queries = [], []
    for entry in EmbeddedCatalogue(size).entries():
        words = document(entry.product).split()
        if rng.random() < 0.2:
            words += rng.choices(ODD, k=3)
        rng.shuffle(words) if rng.random() < 0.1 else None
        texts.append(" ".join(words) if rng.random() < 0.95 or not texts else rng.choice(texts))
        queries += [f"{wish.text}, and price lower than 40.00 dollars" for wish in entry.human[:1]]
    queries = rng.sample(queries, 100)
    for _ in range(100):
        some = rng.choice(texts).split()
        queries.append(" ".join(rng.choices(some, k=rng.randint(1, 4))))
        queries.append(" ".join(rng.choices(some, k=8) * rng.randint(1, 3) + rng.choices(ODD, k=2)))
    return texts, queries


@pytest.mark.parametrize("size", [1_000, 20_000])
def test_the_first_50_are_lucenes(tmp_path: Path, size: int) -> None:
    texts, queries = corpus(size)
    (tmp_path / "texts").mkdir()
    with (tmp_path / "texts" / "all.jsonl").open("w", encoding="utf-8") as stream:
        for number, text in enumerate(texts):
            stream.write(json.dumps({"id": f"B{number:09d}", "contents": text}) + "\n")
    settings = f"-collection JsonCollection -input {tmp_path / 'texts'} -index {tmp_path / 'lucene'} -threads 1"
    indexer = ["io.anserini.index.IndexCollection", "-generator", "DefaultLuceneDocumentGenerator"]
    subprocess.run(["java", "-cp", JAR, *indexer, *settings.split(" ")], check=True, capture_output=True)
    builder = IndexBuilder(tmp_path / "ours")
    for text in texts:
        builder.add(text)
    builder.finish()
    ours = SearchIndex.open(tmp_path / "ours")
    theirs = lucene(tmp_path, queries, str(tmp_path / "lucene"))
    different = [query for query, hits in zip(queries, theirs) if ours.top(query) != [int(hit[1:]) for hit in hits]]
    assert len(queries) >= 300 and sum(map(len, theirs)) > 40 * len(queries)
    assert not different, f"{len(different)} of {len(queries)} queries differ"


def test_terms_are_lucenes(tmp_path: Path) -> None:
    """Random strings of odd characters, short ones, so that most rules meet."""
    rng = random.Random(3)
    lines = ["".join(rng.choices(LETTERS, k=rng.randint(1, 12))).replace("\n", " ") for _ in range(20_000)] + ODD
    theirs = lucene(tmp_path, lines)
    different = [(line, analyse(line), terms) for line, terms in zip(lines, theirs) if analyse(line) != terms]
    assert not different, different[:5]
