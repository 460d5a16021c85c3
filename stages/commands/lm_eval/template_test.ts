import { assertEquals, assertThrows } from "@std/assert";
import { TaskTemplate } from "./template.ts";

const DOC = {
  text: "the cat sat down",
  choices: { text: ["a", "b"], label: ["A", "B"] },
  answerKey: "B",
  label: 1,
  question: "Is it?",
};

Deno.test("TaskTemplate gives what Jinja gives in the harness", () => {
  const cases: readonly [source: string, text: string, value: unknown][] = [
    ["{{text.split(' ')[:-1]|join(' ')}}", "the cat sat", "the cat sat"],
    ["{{' '+text.split(' ')[-1]}}", " down", " down"],
    ["{{choices.label.index(answerKey)}}", "1", 1],
    ["{{['A', 'B'].index(answerKey)}}", "1", 1],
    ["{{choices.text}}", '["a", "b"]', ["a", "b"]],
    ["{{label}}", "1", 1],
    ["Question: {{question}}\nAnswer:", "Question: Is it?\nAnswer:", "Question: Is it?\nAnswer:"],
    // A newline at the end stays, and so does one behind a block.
    ["{{question}}\n", "Is it?\n", "Is it?\n"],
    ["{% if label %}\nyes{% endif %}", "\nyes", "\nyes"],
    ["{{doc.question}}{% for one in range(2) %}{{one}}{% endfor %}", "Is it?01", "Is it?01"],
  ];
  for (const [source, text, value] of cases) {
    const template = new TaskTemplate(source);
    assertEquals([template.render(DOC), template.value(DOC)], [text, value], source);
  }
});

Deno.test("TaskTemplate refuses what a document lacks", () => {
  const refused = (source: string, message: string) =>
    void assertThrows(() => new TaskTemplate(source).render(DOC), Error, message);
  refused("{{answer}}", "the document has no field `answer`");
  refused("{{choices.texts}}", "the field has no property `texts`");
  refused('{{choices.label.index("C")}}', '"C" is not in the list');
  refused("{{text|regex_replace('a', 'b')}}", "regex_replace");
  refused("{{ label + ", "Unexpected end of input");
});
