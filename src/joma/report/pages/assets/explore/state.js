"use strict";
// Everything that a reader can set, kept in the page's address, so that a link shows the same.
const State = (() => {
  const listeners = [];
  let fields = {}, values = {}, written = null;

  // A field reads itself from text (undefined where that makes no sense) and writes itself.
  const oneOf = (initial, choices) => ({ initial, read: (text) => (choices.includes(text) ? text : undefined) });
  const between = (initial, low, high, digits = 4) => ({
    initial,
    low,
    high,
    read: (text) => {
      const value = Number(text);
      return text === "" || !Number.isFinite(value) ? undefined : Math.min(high, Math.max(low, value));
    },
    write: (value) => String(Number(value.toFixed(digits))),
  });
  const whole = (initial, low, high) => {
    const field = between(initial, low, high, 0);
    return { ...field, read: (text) => (field.read(text) === undefined ? undefined : Math.round(field.read(text))) };
  };
  const list = (initial, item, most) => ({
    initial,
    read: (text) => {
      const parts = text.split(",").map(item.read);
      return parts.length > most || parts.includes(undefined) ? undefined : parts;
    },
    write: (parts) => parts.map(item.write).join(","),
  });

  const textOf = (name, value) => (fields[name].write ?? String)(value);
  const address = () => {
    const changed = Object.keys(fields).filter((name) => textOf(name, values[name]) !== textOf(name, fields[name].initial));
    return changed.map((name) => `${name}=${encodeURIComponent(textOf(name, values[name]))}`).join("&");
  };
  const read = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    const found = {};
    for (const [name, field] of Object.entries(fields)) {
      const text = given.get(name);
      found[name] = (text === null ? undefined : field.read(text)) ?? field.initial;
    }
    return found;
  };
  const write = () => {
    clearTimeout(written); // browsers refuse too many changes of the address in a short time
    written = setTimeout(() => {
      const wanted = `#${address()}`;
      if (wanted !== (location.hash || "#")) history.replaceState(null, "", wanted);
      linkHere();
    }, 200);
  };
  const linkHere = () => {
    for (const link of document.querySelectorAll("a.here")) link.href = `#${address()}`;
  };
  const announce = (changed) => {
    for (const listen of listeners) listen(values, new Set(changed));
  };

  return {
    oneOf, between, whole, list, address,
    begin: (declared) => {
      fields = declared;
      values = read();
      linkHere();
      addEventListener("hashchange", () => {
        if (document.getElementById(location.hash.slice(1))) { // a link within the page, which keeps what is set
          if (address()) write();
          return;
        }
        values = read();
        linkHere();
        announce(Object.keys(fields));
      });
      announce(Object.keys(fields));
    },
    listen: (listen) => listeners.push(listen),
    get: () => values,
    set: (changes) => {
      values = { ...values, ...changes };
      write();
      announce(Object.keys(changes));
    },
  };
})();
