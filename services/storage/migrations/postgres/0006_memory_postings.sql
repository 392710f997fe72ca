-- For each of `sought`, the ids of the messages that match it, with the counts of the owner `whose`;
-- no row if nothing is remembered of them. A function, because what compiles expensive queries (`jit`)
-- must be off: it goes by estimates, which grow with everybody's messages, and would take a hundred
-- milliseconds to save one.
CREATE FUNCTION memory_postings(whose text, sought text[])
RETURNS TABLE (messages integer, words integer, ids bigint[])
LANGUAGE plpgsql STABLE SET jit = off AS $$
DECLARE
    term text;
BEGIN
    SELECT o.messages, o.words INTO messages, words FROM memory_owners o WHERE o.owner = whose;
    IF FOUND THEN
        FOREACH term IN ARRAY sought LOOP
            SELECT array_agg(m.id) INTO ids FROM memory m WHERE m.terms @@ CAST(term AS tsquery);
            RETURN NEXT;
        END LOOP;
    END IF;
END $$;
