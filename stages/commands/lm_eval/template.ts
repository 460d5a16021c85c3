/**
 * Templates of the harness' tasks: Jinja over the fields of a document, as text or as the value of an expression.
 *
 * @module
 */

import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";

type Program = ReturnType<typeof parse>;
type RuntimeValue = ReturnType<Interpreter["run"]>;

/** Names that Jinja knows without being told. */
const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  range: (...bounds: number[]) => {
    const [first, end, step] = bounds.length === 1 ? [0, bounds[0]!, 1] : [
      bounds[0]!,
      bounds[1]!,
      bounds[2] ?? 1,
    ];
    return Array.from(
      { length: Math.max(0, Math.ceil((end - first) / step)) },
      (_, i) => first + i * step,
    );
  },
  /** Stands for Python's method `index` of lists and texts. */
  index_of: (list: string | readonly { readonly value: unknown }[], item: unknown) => {
    const at = typeof list === "string"
      ? list.indexOf(String(item))
      : list.findIndex(({ value }) => value === item);
    if (at < 0) throw new Error(`${JSON.stringify(item)} is not in the list`);
    return at;
  },
};

/** A parsed template. */
export class TaskTemplate {
  /** The template as written. */
  readonly source: string;
  readonly #program: Program;

  /** @throws {Error} Saying what is no Jinja. */
  constructor(source: string) {
    this.source = source;
    // The library knows no method `index`, which tasks use to find the answer among labels.
    const known = source.replaceAll(
      /([A-Za-z_][\w.]*|\[[^\[\]]*\])\.index\(([^()]*)\)/g,
      "index_of($1, $2)",
    );
    // The harness keeps a newline at the end, of which Jinja drops one.
    this.#program = parse(tokenize(known.endsWith("\n") ? `${known}\n` : known, {}));
  }

  /** The text for a document. @throws {Error} If it names a field that the document lacks. */
  render(doc: Readonly<Record<string, unknown>>): string {
    return String(this.#run(doc).value);
  }

  /** The value of a template that is one expression, such as `{{choices.text}}`; otherwise its text. */
  value(doc: Readonly<Record<string, unknown>>): unknown {
    const { body } = this.#program;
    const [only] = body;
    const expression = body.length === 1 && /^\s*\{\{[^]*\}\}$/.test(this.source);
    if (!expression || only === undefined) return this.render(doc);
    return plain(new StrictInterpreter(environment(doc)).evaluate(only, environment(doc)));
  }

  #run(doc: Readonly<Record<string, unknown>>): RuntimeValue {
    return new StrictInterpreter(environment(doc)).run(this.#program);
  }
}

function environment(doc: Readonly<Record<string, unknown>>): Environment {
  const environment = new StrictEnvironment();
  const values = { ...GLOBALS, doc, ...doc };
  for (const [name, value] of Object.entries(values)) environment.set(name, value);
  return environment;
}

/** Refuses a name that a document has not, where Jinja would write nothing. */
class StrictEnvironment extends Environment {
  override lookupVariable(name: string): ReturnType<Environment["lookupVariable"]> {
    const found = super.lookupVariable(name);
    if (found.type === "UndefinedValue") throw new Error(`the document has no field \`${name}\``);
    return found;
  }
}

/** Refuses a property that a field has not. */
class StrictInterpreter extends Interpreter {
  override evaluate(...args: Parameters<Interpreter["evaluate"]>): RuntimeValue {
    const found = super.evaluate(...args);
    const [statement] = args;
    if (found.type === "UndefinedValue" && statement?.type === "MemberExpression") {
      const { property } = statement as unknown as { property: { value?: unknown } };
      throw new Error(`the field has no property \`${property.value}\``);
    }
    return found;
  }
}

/** A value of the template language as one of JavaScript. */
function plain(found: RuntimeValue): unknown {
  const { value } = found as { value: unknown };
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) {
    return Object.fromEntries(Array.from(value, ([key, inner]) => [key, plain(inner)]));
  }
  return value;
}
