-- Whether every tool that the answer calls was offered and takes its arguments; NULL where none is called.
ALTER TABLE calls ADD COLUMN tool_success INTEGER;
