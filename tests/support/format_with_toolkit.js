// What Tencent Cloud's own toolkit makes of a serverless.yml: `inputs` as JSON on standard input, requests on output.
// Argument: the folder of the package tencent-component-toolkit.
const path = require('path');
const toolkit = process.argv[2];
const { formatInputs } = require(path.join(toolkit, 'lib/modules/scf/utils'));
const triggers = require(path.join(toolkit, 'lib/modules/triggers')).default;

let text = '';
process.stdin.on('data', (chunk) => (text += chunk));
process.stdin.on('end', () => {
  const inputs = JSON.parse(text);
  const owner = { functionName: inputs.name, FunctionName: inputs.name, namespace: inputs.namespace };
  const made = inputs.events.map((event) => {
    const [kind] = Object.keys(event);
    const request = { region: inputs.region, inputs: { ...owner, ...event[kind] } };
    return { kind, ...triggers[kind].prototype.formatInputs(request).triggerInputs };
  });
  process.stdout.write(JSON.stringify({ function: formatInputs(inputs), triggers: made }));
});
