"use strict";
// Renders /openapi.json. Text only ever becomes text nodes, so nothing in the document can become markup.
function el(tag, props, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function resolve(api, schema) {
  let at = schema;
  for (let i = 0; at && at.$ref && i < 10; i++) {
    at = at.$ref.slice(2).split("/").reduce((node, key) => node && node[key], api);
  }
  return at || {};
}

function sample(api, schema, depth) {
  const at = resolve(api, schema);
  if (at.example !== undefined) return at.example;
  if (at.examples && at.examples.length) return at.examples[0];
  if (depth > 6) return null;
  if (at.allOf) return Object.assign({}, ...at.allOf.map((part) => sample(api, part, depth + 1)));
  const one = (at.oneOf || at.anyOf || []).find((part) => part.type !== "null");
  if (one) return sample(api, one, depth + 1);
  const type = Array.isArray(at.type) ? at.type.find((name) => name !== "null") : at.type;
  if (at.enum) return at.enum[0];
  if (at.properties) {
    return Object.fromEntries(Object.entries(at.properties).map(([key, value]) => [key, sample(api, value, depth + 1)]));
  }
  if (type === "array") return [sample(api, at.items, depth + 1)];
  if (type === "integer" || type === "number") return 0;
  if (type === "boolean") return false;
  if (at.format === "date-time") return new Date(Date.now() + 60000).toISOString();
  return type === "object" ? {} : "";
}

function operation(api, path, method, op, token) {
  const params = (op.parameters || []).map((param) => resolve(api, param));
  const inputs = params.map((param) => {
    const input = el("input", { value: param.name === "Idempotency-Key" ? crypto.randomUUID() : "" });
    const hint = [param.in, param.required ? "required" : "optional", param.description].filter(Boolean).join(" · ");
    return { param, input, label: el("label", {}, el("code", { textContent: param.name }), " ", el("span", { className: "note", textContent: hint }), input) };
  });
  const [type, media] = Object.entries((op.requestBody && op.requestBody.content) || {})[0] || [];
  let body = null;
  if (media) {
    const example = media.example !== undefined ? media.example : sample(api, media.schema, 0);
    body = el("textarea", { value: typeof example === "string" ? example : JSON.stringify(example, null, 2) });
  }
  const output = el("pre", { hidden: true });
  const send = el("button", { textContent: "Send" });
  send.onclick = async () => {
    let target = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { param, input } of inputs) {
      if (param.in === "path") target = target.replace("{" + param.name + "}", encodeURIComponent(input.value));
      else if (input.value && param.in === "query") query.append(param.name, input.value);
      else if (input.value && param.in === "header") headers[param.name] = input.value;
    }
    if (token.value && (op.security || []).length) headers.Authorization = "Bearer " + token.value.trim();
    if (body) headers["Content-Type"] = type;
    const text = query.toString();
    output.hidden = false;
    output.textContent = "…";
    try {
      const answer = await fetch(target + (text ? "?" + text : ""), { method: method.toUpperCase(), headers, body: body ? body.value : undefined });
      const raw = await answer.text();
      let shown = raw;
      try {
        const json = JSON.parse(raw);
        if (json.access_token) token.value = json.access_token;
        shown = JSON.stringify(json, null, 2);
      } catch { /* not JSON: shown as it is */ }
      output.textContent = answer.status + " " + answer.statusText + "\n" + [...answer.headers].map(([k, v]) => k + ": " + v).join("\n") + "\n\n" + shown;
    } catch (error) {
      output.textContent = String(error);
    }
  };
  const answers = Object.entries(op.responses || {}).map(([status, answer]) =>
    el("li", {}, el("code", { textContent: status }), " " + (resolve(api, answer).description || "")));
  return el("details", {},
    el("summary", {},
      el("span", { className: "method", textContent: method.toUpperCase() }),
      el("code", { textContent: path, className: (op.security || []).length ? "lock" : "" }),
      " " + (op.summary || "")),
    op.description ? el("p", { textContent: op.description }) : null,
    ...inputs.map(({ label }) => label), body, el("p", {}, send), output, el("ul", {}, ...answers));
}

(async () => {
  const api = await (await fetch("/openapi.json")).json();
  const token = el("input", { placeholder: "access token; signing in below fills it in", autocomplete: "off" });
  document.body.append(
    el("h1", { textContent: api.info.title + " " + api.info.version }),
    el("p", { textContent: api.info.description || "" }),
    el("label", {}, "Access token", token));
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of ["get", "post", "put", "patch", "delete"]) {
      const op = item[method];
      if (!op) continue;
      const tag = (op.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(api, path, method, op, token));
    }
  }
  for (const [tag, nodes] of groups) document.body.append(el("h2", { textContent: tag }), ...nodes);
})();
