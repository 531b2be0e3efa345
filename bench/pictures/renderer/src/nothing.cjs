// In place of the code editor: no panel has one, and it is larger than all the rest.
module.exports = {};
