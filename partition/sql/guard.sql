-- DETACH takes the parent's row triggers off the leaf.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {{schema}}.{{leaf}}
    FOR EACH ROW EXECUTE FUNCTION {{schema}}.refuse_change()
