// Lets the files of this folder import the npm packages that `install` put into the cache.
import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';

const cache = pathToFileURL(`${process.env.COUNTERPARTS_CACHE}/npm/package.json`).href;
const here = new URL('.', import.meta.url).href;

registerHooks({
  resolve(name, context, next) {
    const ours = context.parentURL?.startsWith(here);
    const bare = !/^(\.{0,2}\/|node:|file:)/.test(name);
    return next(name, ours && bare ? { ...context, parentURL: cache } : context);
  },
});
