// Reads the description of topics and sockets with AsyncAPI's own parser; prints what it finds wrong.

import { Parser, fromFile } from "@asyncapi/parser";

const { document, diagnostics } = await fromFile(new Parser(), process.env.ASYNCAPI).parse();
const errors = diagnostics.filter(({ severity }) => severity === 0);
for (const { path, message } of errors) console.error(path.join("."), message);
if (!document || errors.length > 0) process.exit(1);
